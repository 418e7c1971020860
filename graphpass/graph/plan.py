"""A plan: what calibration decided, one record for each site and each changed layer, as JSON (docs/formats.md).

A plan is a JSON file that can be read and edited, with the large arrays (changed weights) in an .npz of the same
name beside it. It names sites and layers as `graphpass inspect` prints them, and holds the sha256 of the model and
of the calibration data, so that applying it needs no data.
"""

import json
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.errors import OptionError, PlanError
from graphpass.files import replacing
from graphpass.maths.neuron import Neuron, levels_of
from graphpass.maths.thresholds import Levels
from graphpass.options.table import OPTIONS
from graphpass.records import RecordError, parsed, record_of
from graphpass.wording import counted

FORMAT = "graphpass-plan"
VERSION = 3
MOST_AXES = 8  # of a tensor
QCFS = "qcfs"  # the method of a plan whose neurons are those that the network was trained with
METHODS = (*OPTIONS["method"].names, QCFS)
SCALES = ("pre-activation", "activation")  # levels are even on x, or on f(x) where f is curved

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Left:
    """A node that stays analogue. expected: whether that is as it should be; if not, coverage is incomplete."""

    node: str
    op: str
    reason: str
    expected: bool


@dataclass(frozen=True, eq=False)
class SitePlan:
    """The neurons of one site.

    threshold, shift, amplitude, offset: float32 [C], or [1] for the whole tensor. shape: the shape in which they
    broadcast to the site's tensor. levels: number of output levels. lowest, highest: the least and largest value of the
    ANN's activation over the calibration data. scale: x or f(x), which threshold and shift are compared with: see
    SCALES. quantiser: levels with the least error on the ANN itself, for networks without new weights
    (evaluation/baseline.py); None in a plan of version 1. beyond: of an identity site, second neurons for what lies
    outside the levels of the first, x − clip(x, low, high) (graphpass/maths/outliers.py).
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
    scale: str = SCALES[0]
    quantiser: Levels | None = None
    beyond: Levels | None = None

    @property
    def values(self) -> Levels:
        """The parameters of the (first) neurons, [C]."""
        return Levels(self.threshold, self.shift, self.amplitude, self.offset)

    @property
    def neuron(self) -> Neuron:
        """The parameters, shaped to broadcast to the site's tensor."""
        return self.shaped(self.values)

    def shaped(self, levels: Levels) -> Neuron:
        """Parameters of each channel as neurons of the site's tensor."""
        threshold, shift, amplitude, offset = (
            np.asarray(part, np.float32).reshape(self.shape) for part in vars(levels).values()
        )
        return Neuron(threshold, shift, amplitude, offset, self.levels)


@dataclass(frozen=True, eq=False)
class LayerPlan:
    """New weights of one weight layer (in the old shape), and a change of its bias to add (float32 [outputs])."""

    name: str
    weight: NDArray[Any]
    bias_change: Floats


@dataclass(frozen=True, eq=False)
class Plan:
    """All that a form is emitted from, apart from the model itself."""

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
        """Whether no site is left analogue that should be converted."""
        return all(entry.expected for entry in self.left)


_ARRAYS = ("threshold", "shift", "amplitude", "offset")


def save_plan(plan: Plan, path: str | Path) -> None:
    """Write a plan; changed weights go to the .npz of the same name."""
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
        {**_lists(site), **{key: value and _lists(value) for key, value in _more_levels(site)}} for site in plan.sites
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


def _lists(record: SitePlan | Levels) -> dict[str, Any]:
    return {name: value.tolist() if name in _ARRAYS else value for name, value in vars(record).items()}


def _more_levels(site: SitePlan) -> tuple[tuple[str, Levels | None], ...]:
    return ("quantiser", site.quantiser), ("beyond", site.beyond)


def companions(path: Path) -> list[Path]:
    """What `save_plan` may write beside a plan."""
    return [path.parent / f"{path.stem}.npz"]


def load_plan(path: str | Path) -> Plan:
    """Read a plan. Raises PlanError for a missing or damaged file, another version, or a wrong value and its place."""
    path = Path(path)
    try:
        document = parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror})", "give the plan of --plan-out") from error
    except ValueError as error:  # also of bytes that are no text, and of a path with a NUL
        raise PlanError(f"{path}: {_not_json(error)}", "write the plan again with --plan-out") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise PlanError(f"{path}: not a graphpass plan", "write one with --plan-out")
    if document.get("version") not in range(1, VERSION + 1):
        raise PlanError(
            f"{path}: plan version {document.get('version')!r}, this tool reads 1 to {VERSION}", "write it again"
        )
    try:
        _upgrade(document)
        file: _File = record_of(_File, document)
        plan = Plan(
            file.time_steps,
            file.coding,
            file.method,
            file.sites,
            _layers(path, file),
            file.left,
            file.model_sha256,
            file.data_sha256,
            file.samples,
            file.seed,
            file.tool,
            file.notes,
            {each.tensor: (each.low, each.high) for each in file.ranges},
        )
        _check(file, plan)
    except OptionError as error:
        raise PlanError(f"{path}: {error.what}", error.remedy) from error
    except RecordError as error:
        raise PlanError(f"{path}: {error}", "correct it, or write it again with --plan-out") from error
    return plan


@dataclass(frozen=True)
class _Range:
    tensor: str
    low: float
    high: float


@dataclass(frozen=True)
class _File:
    """The JSON of a plan, key by key."""

    format: str
    version: int
    tool: str
    time_steps: int
    coding: str
    method: str
    samples: int
    seed: int
    levels: int
    model_sha256: str
    data_sha256: str
    notes: Mapping[str, str]
    sites: tuple[SitePlan, ...]
    layers: tuple[str, ...]
    arrays: str | None
    ranges: tuple[_Range, ...]
    left: tuple[Left, ...]


def _upgrade(document: dict[str, Any]) -> None:
    """An older version as this, in place. In 1 levels were even on x, without a quantiser; until 3 none had a second
    neuron.
    """
    missing: dict[int, dict[str, Any]] = {
        1: {"scale": SCALES[0], "quantiser": None, "beyond": None},
        2: {"beyond": None},
    }
    sites = document.get("sites")
    for site in sites if isinstance(sites, list) else ():
        for key, value in missing.get(document["version"], {}).items() if isinstance(site, dict) else ():
            site.setdefault(key, value)


def _not_json(error: ValueError) -> str:
    return str(error) if isinstance(error, RecordError) else f"not JSON ({error})"


def _layers(path: Path, file: _File) -> tuple[LayerPlan, ...]:
    if file.arrays is None and not file.layers:
        return ()
    if file.arrays is None:
        raise RecordError("arrays: is null, where layers have new weights")
    if not file.layers:
        raise RecordError(f"arrays: {file.arrays!r}, but no layer has new weights; null leaves all weights as they are")
    arrays = path.with_name(Path(file.arrays).name or "none")
    try:
        with open(arrays, "rb") as opened, np.load(opened, allow_pickle=False) as stored:
            wanted = [f"{part}/{name}" for name in file.layers for part in ("weight", "bias_change")]
            if missing := next((name for name in wanted if name not in stored.files), None):
                raise PlanError(f"{arrays}: lacks {missing!r}", f"keep the one that was written with {path.name}")
            if other := next((name for name in stored.files if name not in wanted), None):
                raise PlanError(f"{arrays}: {other!r} is of none of the plan's layers", "name its layer, or remove it")
            found = [LayerPlan(name, stored[f"weight/{name}"], stored[f"bias_change/{name}"]) for name in file.layers]
    except (OSError, EOFError, ValueError, TypeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise PlanError(f"{arrays}: cannot be read ({error})", f"keep it beside {path.name}") from error
    for layer in found:
        for name, values in (("weight", layer.weight), ("bias_change", layer.bias_change)):
            if values.dtype.kind != "f" or not np.isfinite(values).all():
                raise PlanError(f"{arrays}: {name}/{layer.name} is not made of finite floats", "write the plan again")
        if layer.bias_change.ndim != 1:
            raise PlanError(f"{arrays}: bias_change/{layer.name} is not a list of numbers", "write the plan again")
    return tuple(found)


def _check(file: _File, plan: Plan) -> None:
    """Check what types cannot express. Raises RecordError, and OptionError for the time-steps and the code."""
    most = levels_of(plan.time_steps, plan.coding)
    if file.levels != most:
        raise RecordError(f"levels: {file.levels}, not the {most} of T = {plan.time_steps} in this code")
    for key in ("samples", "seed"):
        if getattr(file, key) < 0:
            raise RecordError(f"{key}: {getattr(file, key)} is below 0")
    if plan.method not in METHODS:
        raise RecordError(f"method: {plan.method!r} is not one of {', '.join(METHODS)}")
    for place, each in enumerate(file.ranges):
        if each.low > each.high:
            raise RecordError(f"ranges[{place}].low: {each.low} is above high, {each.high}")
    for key, names in (
        ("sites", [site.name for site in plan.sites]),
        ("sites", [site.output for site in plan.sites]),
        ("layers", file.layers),
        ("ranges", [each.tensor for each in file.ranges]),
    ):
        if twice := next((name for name, count in Counter(names).items() if count > 1), None):
            raise RecordError(f"{key}: {twice!r} appears twice")
    for place, site in enumerate(plan.sites):
        check_site(site, f"sites[{place}].{{}} ({site.name!r})".format, most)


def check_site(site: SitePlan, at: Callable[[str], str], most: int) -> None:
    """Raises RecordError for numbers that no neurons have. at: the place of a key; most: levels that the plan has."""
    if not site.shape or min(site.shape) < 1 or len(site.shape) > MOST_AXES:
        raise RecordError(f"{at('shape')}: {list(site.shape)[:MOST_AXES]} is not one of 1 to {MOST_AXES} sizes")
    count = math.prod(site.shape)
    for record, prefix in ((site, ""), *((levels, f"{key}.") for key, levels in _more_levels(site))):
        if record is None:
            continue
        for name in _ARRAYS:
            if len(getattr(record, name)) != count:
                raise RecordError(
                    f"{at(prefix + name)}: {counted(len(getattr(record, name)), 'number')}, its shape holds {count}"
                )
        if not (record.threshold > 0).all():
            raise RecordError(f"{at(prefix + 'threshold')}: {record.threshold.min()} is not above 0")
    if site.scale not in SCALES:
        raise RecordError(f"{at('scale')}: {site.scale!r} is not one of {', '.join(SCALES)}")
    if site.kind == "identity" and site.scale != SCALES[0]:
        raise RecordError(f"{at('scale')}: {site.scale!r}, but an identity has no activation")
    if site.kind != "identity" and site.beyond:
        raise RecordError(f"{at('beyond')}: second neurons, but this is no identity")
    if not 2 <= site.levels <= most:
        raise RecordError(f"{at('levels')}: {site.levels} is not 2 to {most}, the plan's")
    if site.error is not None and site.error < 0:
        raise RecordError(f"{at('error')}: {site.error} is below 0")
    if not site.lowest <= site.highest:
        raise RecordError(f"{at('lowest')}: {site.lowest} is above highest, {site.highest}")


def reaches(shape: Sequence[int], sizes: Sequence[int | str | None] | None) -> bool:
    """Whether parameters of this shape broadcast to a tensor of these sizes without enlarging it; unknown sizes fit.

    >>> reaches((3, 1), ("N", 3, 8)), reaches((2, 1), ("N", 3, 8)), reaches((1, 1, 1), ("N", 3))
    (True, False, False)
    """
    if sizes is None:
        return True
    known = zip(reversed(shape), reversed(sizes), strict=False)
    return len(shape) <= len(sizes) and all(one == 1 or not isinstance(size, int) or one == size for one, size in known)
