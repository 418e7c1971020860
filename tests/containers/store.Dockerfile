# moto's S3 server in the place of versitygw, under its name and with its arguments, as docker/compose.yaml starts it.
FROM docker.io/library/python:3.13-slim-trixie
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends wget && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/moto && /opt/moto/bin/pip install --no-cache-dir 'moto[server]>=5.1'
COPY versitygw /app/versitygw
