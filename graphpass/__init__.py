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
    from graphpass.calibration.calibrate import Options
    from graphpass.calibration.synthetic import Synthetic
    from graphpass.conversion import Conversion, convert
    from graphpass.datasets.images import ImageOptions
    from graphpass.datasets.sources import from_arrays, open_dataset
    from graphpass.errors import GraphpassError
    from graphpass.evaluation.evaluate import Options as EvaluationOptions
    from graphpass.evaluation.evaluate import evaluate
    from graphpass.evaluation.metrics.registry import metrics_of
    from graphpass.evaluation.results import Evaluation
    from graphpass.graph.plan import Plan, load_plan, save_plan
    from graphpass.maths.allocation import Auto
    from graphpass.runtime.session import open_session
    from graphpass.sites.sites import Selection
    from graphpass.verification.forms import Verification, verify

_MODULES = {
    "Auto": "maths.allocation",
    "Conversion": "conversion",
    "Evaluation": "evaluation.results",
    "EvaluationOptions": "evaluation.evaluate",
    "GraphpassError": "errors",
    "ImageOptions": "datasets.images",
    "Options": "calibration.calibrate",
    "Plan": "graph.plan",
    "Selection": "sites.sites",
    "Synthetic": "calibration.synthetic",
    "Verification": "verification.forms",
    "convert": "conversion",
    "evaluate": "evaluation.evaluate",
    "from_arrays": "datasets.sources",
    "load_plan": "graph.plan",
    "metrics_of": "evaluation.metrics.registry",
    "open_dataset": "datasets.sources",
    "open_session": "runtime.session",
    "save_plan": "graph.plan",
    "verify": "verification.forms",
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
