"""Which execution provider runs each node of a network, by onnxruntime's own profile of one run."""

import json
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from graphpass.runtime.providers import Providers
from graphpass.runtime.session import ProviderWarning, Session, open_session, run

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Placement:
    """A session and one run of it. ops: provider → operators of the nodes that it ran, one a node."""

    session: Session
    outputs: Arrays
    ops: Mapping[str, tuple[str, ...]]


def placement(model: onnx.ModelProto, providers: Providers, inputs: Arrays) -> Placement:
    """Run a model once and see where its nodes ran; nodes as they are after onnxruntime's optimisation.

    Raises SessionError where it does not load or run, also where the first provider could not be started.
    """
    with tempfile.TemporaryDirectory(prefix="graphpass-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", ProviderWarning)
        session = open_session(model, providers, threads=1, use_blocked=False, profile=Path(folder) / "run")
        outputs = run(session, inputs)
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    ran: dict[str, dict[str, str]] = {}
    for event in events:
        told = event.get("args", {})
        if event.get("cat") == "Node" and told.get("provider"):
            ran.setdefault(told["provider"], {})[str(told.get("node_index", event["name"]))] = told["op_name"]
    return Placement(session, outputs, {name: tuple(nodes.values()) for name, nodes in ran.items()})
