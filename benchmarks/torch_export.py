"""PyTorch modules as ONNX files."""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def export(model: Any, shape: Sequence[int], path: Path) -> Path:
    """`image` float32 [N, *shape] → `scores`, opset 17, N free; the file is written whole or not at all."""
    torch = importlib.import_module("torch")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    torch.onnx.export(
        model.eval(),
        (torch.zeros(2, *shape),),
        temporary,
        input_names=["image"],
        output_names=["scores"],
        opset_version=17,
        dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}},
        dynamo=False,
    )
    return temporary.replace(path)
