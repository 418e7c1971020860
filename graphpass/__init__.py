"""graphpass: ONNX networks to spiking networks of parallel spiking neurons, without training.

    import graphpass

    conversion = graphpass.convert("ann.onnx", calibration="images.npz", output="snn.onnx", time_steps=4)
    session = graphpass.open_session("snn.onnx")

There is a function for each command of the command line (`graphpass --help`): convert, evaluate, sweep, verify,
inspect, inline, card, doctor. `help(graphpass.convert)` explains one of them. Names are loaded when they are first
used, so importing the package costs nothing and needs no runtime. No public name is also the name of a submodule.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphpass.api import (
        card,
        convert,
        evaluate,
        inline,
        inspect,
        load,
        load_plan,
        open_dataset,
        open_session,
        save_json,
        save_plan,
        save_report,
        sweep,
        verify,
    )
    from graphpass.cli.doctor import doctor
    from graphpass.conversion import Conversion, ConversionWarning
    from graphpass.datasets.dataset import Dataset
    from graphpass.errors import GraphpassError
    from graphpass.evaluation.results import Evaluation
    from graphpass.graph.model import Source
    from graphpass.graph.plan import Plan
    from graphpass.inspection import Inspection
    from graphpass.sweeps import Row
    from graphpass.verification.forms import Verification
    from graphpass.verification.integer import Flips

_HOMES = {  # name → its module
    "Conversion": "conversion",
    "ConversionWarning": "conversion",
    "Dataset": "datasets.dataset",
    "Evaluation": "evaluation.results",
    "Flips": "verification.integer",
    "GraphpassError": "errors",
    "Inspection": "inspection",
    "Plan": "graph.plan",
    "Row": "sweeps",
    "Source": "graph.model",
    "Verification": "verification.forms",
    "card": "api",
    "convert": "api",
    "doctor": "cli.doctor",
    "evaluate": "api",
    "inline": "api",
    "inspect": "api",
    "load": "api",
    "load_plan": "api",
    "open_dataset": "api",
    "open_session": "api",
    "save_json": "api",
    "save_plan": "api",
    "save_report": "api",
    "sweep": "api",
    "verify": "api",
}
__all__ = [
    "Conversion",
    "ConversionWarning",
    "Dataset",
    "Evaluation",
    "Flips",
    "GraphpassError",
    "Inspection",
    "Plan",
    "Row",
    "Source",
    "Verification",
    "card",
    "convert",
    "doctor",
    "evaluate",
    "inline",
    "inspect",
    "load",
    "load_plan",
    "open_dataset",
    "open_session",
    "save_json",
    "save_plan",
    "save_report",
    "sweep",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graphpass' has no attribute {name!r}")
    return getattr(import_module(f"graphpass.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
