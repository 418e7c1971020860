# The service on the CPU: docs/service.md, "Containers". Build: docker build -t graphpass .
ARG PYTHON=3.13-slim-trixie

FROM python:${PYTHON} AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY examples/fashion_mnist examples/fashion_mnist
COPY graphpass graphpass
COPY service service
# Without a compiler the wheel would be pure Python: here that is an error.
RUN GRAPHPASS_CUDA=OFF pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && grep -q libgraphpass_ops.so /wheels/graphpass-*.whl
RUN python -m venv /opt/graphpass \
    && wheel=$(echo /wheels/graphpass-*.whl) \
    && /opt/graphpass/bin/pip install --no-cache-dir "${wheel}[cpu,service]" \
    && /opt/graphpass/bin/python -m compileall -q /opt/graphpass/lib

FROM python:${PYTHON}
RUN groupadd --gid 10001 graphpass \
    && useradd --uid 10001 --gid graphpass --no-create-home --home-dir /data --shell /usr/sbin/nologin graphpass \
    && install -d -o graphpass -g graphpass -m 0750 /data
COPY --from=build /opt/graphpass /opt/graphpass
ENV PATH=/opt/graphpass/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GRAPHPASS_DATA_DIR=/data \
    GRAPHPASS_HOST=0.0.0.0 \
    GRAPHPASS_PORT=8000
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"GRAPHPASS_PORT\"]}/livez', timeout=4)"]
ENTRYPOINT ["graphpass"]
CMD ["serve"]
