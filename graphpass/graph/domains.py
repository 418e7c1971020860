"""The domains of operators: ONNX's own, ours, and those that onnxruntime has kernels for."""

SPIKING_DOMAIN = "ai.graphpass"
STANDARD_DOMAINS = frozenset({None, "", "ai.onnx"})  # graphsurgeon gives None where a node names no domain
RUNTIME_DOMAINS = STANDARD_DOMAINS | {"ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", SPIKING_DOMAIN}
