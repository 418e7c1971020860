"""The public functions. Each takes a path, a model, arrays, or what another one returned.

Options have the names, meanings and defaults of the command line. None means that an option is not given; an option
that would have no effect is refused (graphpass/options). Results are frozen dataclasses.
"""

from graphpass.api.conversions import convert, sweep
from graphpass.api.documents import card, load_plan, save_json, save_plan, save_report
from graphpass.api.evaluations import evaluate, verify
from graphpass.api.models import inline, inspect, load, open_dataset, open_session

__all__ = [
    "card",
    "convert",
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
