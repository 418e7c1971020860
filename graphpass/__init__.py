"""graphpass: ONNX networks to spiking networks of parallel spiking neurons, without training.

    import graphpass

    conversion = graphpass.convert("ann.onnx", calibration="images.npz", output="snn.onnx", time_steps=4)
    session = graphpass.open_session("snn.onnx")

The command line does the same: `graphpass --help`. Names are loaded when they are first used, so that importing the
package costs nothing and needs no runtime.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphpass.calibrate import Options
    from graphpass.convert import Conversion, convert
    from graphpass.datasets.images import ImageOptions
    from graphpass.datasets.sources import from_arrays, open_dataset
    from graphpass.errors import GraphpassError
    from graphpass.evaluate import Options as EvaluationOptions
    from graphpass.evaluate import evaluate
    from graphpass.evaluation import Evaluation
    from graphpass.graph.plan import Plan, load_plan, save_plan
    from graphpass.graph.sites import Selection
    from graphpass.maths.allocation import Auto
    from graphpass.scoring.chosen import metrics_of
    from graphpass.session import open_session
    from graphpass.synthetic import Synthetic
    from graphpass.verify import Verification, verify

_MODULES = {
    "Auto": "maths.allocation",
    "Conversion": "convert",
    "Evaluation": "evaluation",
    "EvaluationOptions": "evaluate",
    "GraphpassError": "errors",
    "ImageOptions": "datasets.images",
    "Options": "calibrate",
    "Plan": "graph.plan",
    "Selection": "graph.sites",
    "Synthetic": "synthetic",
    "Verification": "verify",
    "convert": "convert",
    "evaluate": "evaluate",
    "from_arrays": "datasets.sources",
    "load_plan": "graph.plan",
    "metrics_of": "scoring.chosen",
    "open_dataset": "datasets.sources",
    "open_session": "session",
    "save_plan": "graph.plan",
    "verify": "verify",
}
__all__ = [
    "Auto",
    "Conversion",
    "Evaluation",
    "EvaluationOptions",
    "GraphpassError",
    "ImageOptions",
    "Options",
    "Plan",
    "Selection",
    "Synthetic",
    "Verification",
    "convert",
    "evaluate",
    "from_arrays",
    "load_plan",
    "metrics_of",
    "open_dataset",
    "open_session",
    "save_plan",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'graphpass' has no attribute {name!r}")
    return getattr(import_module(f"graphpass.{_MODULES[name]}"), "Options" if name == "EvaluationOptions" else name)
