"""The domains of operators: ONNX's own, ours, and those that onnxruntime has kernels for."""

import onnx

SPIKING_DOMAIN = "ai.graphpass"
STANDARD_DOMAINS = frozenset({None, "", "ai.onnx"})  # graphsurgeon gives None where a node names no domain
RUNTIME_DOMAINS = STANDARD_DOMAINS | {"ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", SPIKING_DOMAIN}
# operators that onnxruntime has in ONNX's domain from this opset on; ONNX has them only later, no longer or never
RUNTIME_OPERATORS = {
    "GroupNormalization": 18,
    "LayerNormalization": 1,
    "SimplifiedLayerNormalization": 1,
    "ThresholdedRelu": 1,
}


def opset_of(proto: onnx.ModelProto | onnx.FunctionProto) -> int:
    """Version of the standard operators that a model or a function imports; 1 where it imports none."""
    return next((int(entry.version) for entry in proto.opset_import if entry.domain in STANDARD_DOMAINS), 1)
