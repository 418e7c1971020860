"""What calibration decided: one record a site, one a compensated layer. JSON in and out; docs/formats.md.

A plan is a JSON file that can be read and edited, with the large arrays (compensated weights) in an .npz of the same
name beside it. It names sites and layers as `graphpass inspect` prints them, and holds the sha256 of the model and
of the calibration data, so that applying it needs no data.
"""

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.errors import OptionError, PlanError
from graphpass.files import replacing
from graphpass.maths.neuron import Neuron, levels_of

FORMAT = "graphpass-plan"
VERSION = 1

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Left:
    """A node that was left analogue. expected: it is right to leave it; otherwise coverage is incomplete."""

    node: str
    op: str
    reason: str
    expected: bool


@dataclass(frozen=True)
class SitePlan:
    """The neurons of one site.

    threshold, shift, amplitude, offset: float32 [C], or [1] for the whole tensor. shape: what they are reshaped to so
    as to broadcast to the site's tensor. levels: output levels. lowest, highest: of the ANN's activation over the
    calibration data.
    error: relative mean square error Σ(y − a)² / Σ(a − ā)² of the neurons against the ANN's activation, on the sample.
    input, output, layers: as in graph.sites.Site.
    """

    name: str
    kind: str
    input: str
    output: str
    layers: tuple[str, ...]
    shape: tuple[int, ...]
    levels: int
    threshold: Floats
    shift: Floats
    amplitude: Floats
    offset: Floats
    lowest: float = 0.0
    highest: float = 0.0
    error: float | None = None

    @property
    def neuron(self) -> Neuron:
        """The parameters, shaped to broadcast to the site's tensor."""
        parts = (self.threshold, self.shift, self.amplitude, self.offset)
        threshold, shift, amplitude, offset = (np.asarray(part, np.float32).reshape(self.shape) for part in parts)
        return Neuron(threshold, shift, amplitude, offset, self.levels)


@dataclass(frozen=True)
class LayerPlan:
    """New weights of one weight layer (same shape as the old), and what is added to its bias (float32 [outputs])."""

    name: str
    weight: NDArray[Any]
    bias_change: Floats


@dataclass(frozen=True)
class Plan:
    """Everything that a form is emitted from, besides the model itself."""

    time_steps: int
    coding: str
    method: str
    sites: tuple[SitePlan, ...]
    layers: tuple[LayerPlan, ...] = ()
    left: tuple[Left, ...] = ()
    model_digest: str = ""
    data_digest: str = ""
    samples: int = 0
    seed: int = 0
    tool: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # of graph.analogue's tensors: low, high

    @property
    def levels(self) -> int:
        return levels_of(self.time_steps, self.coding)

    @property
    def complete(self) -> bool:
        """Whether every site that should have been converted was."""
        return all(entry.expected for entry in self.left)


_ARRAYS = ("threshold", "shift", "amplitude", "offset")


def save_plan(plan: Plan, path: str | Path) -> None:
    """Write a plan; compensated weights go to the .npz of the same name."""
    path = Path(path)
    (arrays,) = companions(path)
    if arrays == path:
        raise PlanError(f"{path}: the plan's arrays go to a file of this name", "choose a name that ends in .json")
    document: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    document.update(
        {name: getattr(plan, name) for name in ("tool", "time_steps", "coding", "method", "samples", "seed")}
    )
    document["levels"] = plan.levels
    document["model_sha256"] = plan.model_digest
    document["data_sha256"] = plan.data_digest
    document["notes"] = dict(plan.notes)
    document["sites"] = [
        {name: value.tolist() if name in _ARRAYS else value for name, value in vars(site).items()}
        for site in plan.sites
    ]
    document["layers"] = [layer.name for layer in plan.layers]
    document["arrays"] = arrays.name if plan.layers else None
    document["ranges"] = [{"tensor": name, "low": low, "high": high} for name, (low, high) in plan.ranges.items()]
    document["left"] = [asdict(entry) for entry in plan.left]
    with replacing(path, PlanError) as staged:
        if plan.layers:
            stored: dict[str, Any] = {f"weight/{layer.name}": layer.weight for layer in plan.layers}
            stored.update({f"bias_change/{layer.name}": layer.bias_change for layer in plan.layers})
            np.savez(staged.with_name(arrays.name), **stored)
        staged.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def companions(path: Path) -> list[Path]:
    """What `save_plan` may write beside a plan. Raises PlanError for a path without a name."""
    try:
        return [path.with_suffix(".npz")]
    except ValueError as error:
        raise PlanError(f"{path}: no name of a file", "choose a name that ends in .json") from error


def load_plan(path: str | Path) -> Plan:
    """Read a plan. Raises PlanError for a missing or damaged file, another version, or nonsense in a site."""
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror})", "give the plan of --plan-out") from error
    except ValueError as error:
        raise PlanError(f"{path}: not JSON ({error})", "write the plan again with --plan-out") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise PlanError(f"{path}: not a graphpass plan", "write one with --plan-out")
    if document.get("version") != VERSION:
        raise PlanError(f"{path}: plan version {document.get('version')}, this tool reads {VERSION}", "write it again")
    try:
        plan = Plan(
            **{name: document[name] for name in ("tool", "time_steps", "coding", "method", "samples", "seed")},
            sites=tuple(_site(entry) for entry in document["sites"]),
            layers=_layers(path, document),
            left=tuple(Left(**entry) for entry in document["left"]),
            ranges={each["tensor"]: (float(each["low"]), float(each["high"])) for each in document.get("ranges", ())},
            model_digest=document["model_sha256"],
            data_digest=document["data_sha256"],
            notes=document.get("notes", {}),
        )
        _check(path, plan)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PlanError(f"{path}: damaged plan ({type(error).__name__}: {error})", "write it again") from error
    return plan


def _site(entry: Mapping[str, Any]) -> SitePlan:
    values = dict(entry)
    for name in _ARRAYS:
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused
            values[name] = np.asarray(values[name], np.float32)
    values["layers"] = tuple(values["layers"])
    values["shape"] = tuple(values["shape"])
    return SitePlan(**values)


def _layers(path: Path, document: Mapping[str, Any]) -> tuple[LayerPlan, ...]:
    if not document["layers"]:
        return ()
    arrays = path.with_name(Path(document["arrays"]).name)
    try:
        with open(arrays, "rb") as file, np.load(file, allow_pickle=False) as stored:
            return tuple(
                LayerPlan(name, stored[f"weight/{name}"], stored[f"bias_change/{name}"]) for name in document["layers"]
            )
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise PlanError(f"{arrays}: cannot be read ({error})", f"keep it beside {path.name}") from error


def _check(path: Path, plan: Plan) -> None:
    if type(plan.time_steps) is not int:
        raise PlanError(f"{path}: {plan.time_steps!r} time-steps", "mend it")
    try:
        levels_of(plan.time_steps, plan.coding)
    except OptionError as error:
        raise PlanError(f"{path}: {error.what}", error.remedy) from error
    if not np.isfinite([limit for limits in plan.ranges.values() for limit in limits]).all():
        raise PlanError(f"{path}: a range is not finite", "mend or write it again")
    for site in plan.sites:
        texts = (site.name, site.kind, site.input, site.output, *site.layers)
        numbers = (site.levels, *site.shape)
        if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
            raise PlanError(f"{path}: site {site.name!r}: a name is no text, or a size no number", "mend it")
        where = f"{path}: site {site.name!r}"
        count = int(np.prod(site.shape))
        for name in _ARRAYS:
            values = getattr(site, name)
            if values.shape != (count,) or not np.isfinite(values).all():
                raise PlanError(f"{where}: {name} must be {count} finite numbers", "mend or write it again")
        if not (site.threshold > 0).all():
            raise PlanError(f"{where}: thresholds must be above 0", "mend or write it again")
        if not 2 <= site.levels <= plan.levels:
            raise PlanError(f"{where}: {site.levels} levels do not fit the plan's {plan.levels}", "mend it")
