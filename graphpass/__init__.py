"""graphpass: ONNX networks to spiking networks of parallel spiking neurons, without training.

    import graphpass

    conversion = graphpass.convert("ann.onnx", calibration="images.npz", output="snn.onnx", time_steps=4)
    session = graphpass.open_session("snn.onnx")

There is a function for each command of the command line (`graphpass --help`): convert, evaluate, search, sweep, verify,
inspect, inline, card, doctor; from_torch converts a PyTorch module. `help(graphpass.convert)` explains one of them.
Names are loaded when they are first used, so importing the package costs nothing and needs no runtime. No public name
is also the name of a submodule.

onnxruntime tells its maker what it runs, unless it is told not to before it is loaded: here (docs/decisions/0061).
"""

import os
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from graphpass.api import (
        card,
        convert,
        evaluate,
        from_torch,
        inline,
        inspect,
        load,
        load_plan,
        open_dataset,
        open_session,
        plot_graph,
        plot_pareto,
        plot_raster,
        plot_thresholds,
        save_json,
        save_node_data,
        save_picture,
        save_plan,
        save_report,
        search,
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
    from graphpass.report.pictures.picture import Picture
    from graphpass.searching.trials import Found
    from graphpass.sweeps import Row
    from graphpass.verification.forms import Verification
    from graphpass.verification.integer import Flips

_HOMES = {  # name → its module
    "Conversion": "conversion",
    "ConversionWarning": "conversion",
    "Dataset": "datasets.dataset",
    "Evaluation": "evaluation.results",
    "Flips": "verification.integer",
    "Found": "searching.trials",
    "GraphpassError": "errors",
    "Inspection": "inspection",
    "Picture": "report.pictures.picture",
    "Plan": "graph.plan",
    "Row": "sweeps",
    "Source": "graph.model",
    "Verification": "verification.forms",
    "card": "api",
    "convert": "api",
    "doctor": "cli.doctor",
    "evaluate": "api",
    "from_torch": "api",
    "inline": "api",
    "inspect": "api",
    "load": "api",
    "load_plan": "api",
    "open_dataset": "api",
    "open_session": "api",
    "plot_graph": "api",
    "plot_pareto": "api",
    "plot_raster": "api",
    "plot_thresholds": "api",
    "save_json": "api",
    "save_node_data": "api",
    "save_picture": "api",
    "save_plan": "api",
    "save_report": "api",
    "search": "api",
    "sweep": "api",
    "verify": "api",
}
__all__ = [
    "Conversion",
    "ConversionWarning",
    "Dataset",
    "Evaluation",
    "Flips",
    "Found",
    "GraphpassError",
    "Inspection",
    "Picture",
    "Plan",
    "Row",
    "Source",
    "Verification",
    "card",
    "convert",
    "doctor",
    "evaluate",
    "from_torch",
    "inline",
    "inspect",
    "load",
    "load_plan",
    "open_dataset",
    "open_session",
    "plot_graph",
    "plot_pareto",
    "plot_raster",
    "plot_thresholds",
    "save_json",
    "save_node_data",
    "save_picture",
    "save_plan",
    "save_report",
    "search",
    "sweep",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("graphpass")
    if name not in _HOMES:
        raise AttributeError(f"module 'graphpass' has no attribute {name!r}")
    return getattr(import_module(f"graphpass.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), "__version__", *__all__]
