"""The public functions. Each takes a path, a model, arrays, or what another one returned.

Options have the names, meanings and defaults of the command line. None means that an option is not given; an option
that would have no effect is refused (graphpass/options). Results are frozen dataclasses.
"""

from graphpass.api.conversions import convert, search, sweep
from graphpass.api.documents import card, load_plan, save_json, save_plan, save_report
from graphpass.api.evaluations import evaluate, verify
from graphpass.api.models import inline, inspect, load, open_dataset, open_session
from graphpass.api.plots import plot_graph, plot_pareto, plot_raster, plot_thresholds, save_node_data, save_picture
from graphpass.api.pytorch import from_torch

__all__ = [
    "card",
    "convert",
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
