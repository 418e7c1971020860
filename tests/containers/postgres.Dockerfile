# Debian's PostgreSQL behind the variables of the postgres image that docker/compose.yaml uses.
FROM docker.io/library/python:3.13-slim-trixie
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends postgresql && rm -rf /var/lib/apt/lists/* \
    && ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/
COPY postgres-start /usr/local/bin/
VOLUME /var/lib/postgresql/data
ENTRYPOINT ["postgres-start"]
