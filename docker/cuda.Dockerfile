# The service with CUDA kernels, for NVIDIA GPUs. Build: docker build -f docker/cuda.Dockerfile -t graphpass:cuda .
# CUDA and cuDNN have to be those of onnxruntime-gpu: 1.31 needs CUDA 13.0 and cuDNN 9.
ARG CUDA=13.0.1
ARG UBUNTU=24.04

FROM nvidia/cuda:${CUDA}-devel-ubuntu${UBUNTU} AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ python3 python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY examples/fashion_mnist examples/fashion_mnist
COPY graphpass graphpass
COPY service service
# ON: this fails if nvcc is missing. The environment is built in its final place, since its paths are fixed.
RUN python3 -m venv /opt/graphpass \
    && GRAPHPASS_CUDA=ON /opt/graphpass/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && wheel=$(echo /wheels/graphpass-*.whl) \
    && /opt/graphpass/bin/pip install --no-cache-dir "${wheel}[gpu,service]" "onnxruntime-gpu>=1.31,<1.32" \
    && /opt/graphpass/bin/python -m compileall -q /opt/graphpass/lib

FROM nvidia/cuda:${CUDA}-cudnn-runtime-ubuntu${UBUNTU}
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 graphpass \
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
