"""PyTorch modules as ONNX files."""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def export(model: Any, shape: Sequence[int], path: Path) -> Path:
    """`image` float32 [N, *shape] → `scores`, opset 17, N free; the file is written whole or not at all."""
    torch = importlib.import_module("torch")
    return traced(model, torch.zeros(2, *shape), path, ("image", "scores"), ("batch",))


def traced(model: Any, example: Any, path: Path, names: tuple[str, str], free: Sequence[str]) -> Path:
    """As `export`. example: the input. names: of input and output. free: names of their leading axes."""
    torch = importlib.import_module("torch")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    torch.onnx.export(
        model.eval(),
        (example,),
        temporary,
        input_names=[names[0]],
        output_names=[names[1]],
        opset_version=17,
        dynamic_axes={name: dict(enumerate(free)) for name in names},
        dynamo=False,
    )
    return temporary.replace(path)
