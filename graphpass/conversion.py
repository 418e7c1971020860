"""The story of a conversion: load, normalise, find sites, calibrate, emit, check."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from graphpass.calibration.calibrate import CalibrationOptions, calibrate, observe_part
from graphpass.calibration.fitting import qcfs_plan
from graphpass.calibration.sensitivity import choose
from graphpass.calibration.synthetic import Synthetic, for_made_up, made_up, on_made_up, synthetic_plan
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.images import ImageOptions
from graphpass.datasets.sources import from_arrays, open_dataset
from graphpass.errors import ModelError, OptionError, SessionError
from graphpass.files import path_to
from graphpass.forms.integer.targets import TARGETS
from graphpass.forms.registry import Measure, emit, require_form
from graphpass.graph.description import PREFIX, keep_description
from graphpass.graph.model import Source, load, save
from graphpass.graph.plan import QCFS, Plan, load_plan
from graphpass.graph.upgrade import TARGET_OPSET
from graphpass.maths.allocation import Auto
from graphpass.maths.thresholds import Levels
from graphpass.network import Network, left_by, own_plan, own_time_steps, planned, prepare, require_coverage
from graphpass.options.table import OPTIONS, STEPS
from graphpass.progress import Progress, silent
from graphpass.pytorch import require_torch
from graphpass.runtime.providers import Providers
from graphpass.runtime.session import fixed_batch, input_specs, open_session, run
from graphpass.sites.sites import Selection
from graphpass.verification.distance import Distance, Forms, measured, sample_batches
from graphpass.verification.ranges import beyond_float16
from graphpass.verification.source import GivenRun, check_source

if TYPE_CHECKING:
    from graphpass.pytorch.modules import SessionModule

UNREAL = (
    "CALIBRATED ON SYNTHETIC DATA ({what}): the inputs were made up, the network may be much worse than with real data "
    "(docs/calibration.md); evaluate it, and calibrate on real inputs where there are any"
)

Data = str | Path | Mapping[str, NDArray[Any]] | Dataset


class ConversionWarning(UserWarning):
    """Something about a conversion that its user should know."""


@dataclass(frozen=True, eq=False)
class Conversion:
    """The spiking network as an ONNX model, and the plan that it was emitted from.

    distance: the measured distance between the form and the folded form; None for the folded form itself, and where
    no inputs could be made up.
    """

    proto: onnx.ModelProto
    plan: Plan
    network: Network
    form: str
    precision: str = OPTIONS["precision"].default
    distance: Distance | None = None
    target: str = OPTIONS["target"].default

    def save(self, path: str | Path) -> None:
        """Write the model; over 2 GiB its weights go to ``<name>.data`` beside it."""
        save(self.proto, path_to(path))

    def to_torch(
        self, providers: Providers | None = None, threads: int = 0, use_native: bool = True, use_blocked: bool = True
    ) -> "SessionModule":
        """The network as a torch.nn.Module: `module(images)` runs it in onnxruntime, on tensors of PyTorch on the CPU.

        providers, threads, use_native, use_blocked: as for `graphpass.open_session`; `module.session` is the session.
        Raises OptionError where PyTorch is not installed, SessionError.
        """
        require_torch("to_torch")
        from graphpass.pytorch.modules import SessionModule  # loads torch

        return SessionModule(open_session(self.proto, providers, threads, use_native, use_blocked))


def convert(
    model: str | Path | Source | Network,
    calibration: Data | Synthetic | None = None,
    output: str | Path | None = None,
    *,
    time_steps: int | None = None,
    coding: str = OPTIONS["coding"].default,
    method: str = OPTIONS["method"].default,
    form: str = OPTIONS["form"].default,
    precision: str = OPTIONS["precision"].default,
    target: str = OPTIONS["target"].default,
    plan: str | Path | Plan | None = None,
    selection: Selection | None = None,
    allow_partial: bool = False,
    images: ImageOptions | None = None,
    options: CalibrationOptions | None = None,
    levels: Auto | Mapping[str, int] | None = None,
    observed: Sequence[str | Path] = (),
    progress: Progress = silent,
) -> Conversion:
    """Convert an ONNX network into a spiking one, and write it to `output` if given.

    model: a path, or what `graphpass.graph.model.load` or `prepare` returned; a prepared network holds its selection.
    calibration: a path as in docs/data.md, or a dict of arrays keyed by input names; not needed with a plan, nor for a
    network that was trained with QCFS. Synthetic(): inputs are made up, which costs accuracy (a ConversionWarning).
    time_steps: T; default the network's own for QCFS, else 8. options: seed, memory and other settings of calibration.
    The arguments replace its time_steps, coding and method, and the form decides its exact_padding.
    levels: how many levels single sites have, by name, or Auto, which chooses them within a budget. T is then the most
    that a site may take, and the plan's T is the most that one does take. Default: T + 1 (rate) or 2^T (phase) levels
    at every site.
    precision: "float16" writes the form in float16 (forms/float16.py); calibration is the same in any precision.
    target: the runtime that the integer form is written for; calibration is the same for any.
    observed: what `observe` wrote for all samples, in order. The original network is then not run again, and the bytes
    of the result are the same.

    Raises the errors of graphpass.errors: ModelError, DataError, PlanError, CalibrationError, OptionError, FormError
    when another form is too far from the folded one or the target cannot read it, and CoverageError when a site that
    should be converted cannot be and allow_partial is not set.
    """
    require_form(form, precision, target)
    threads = (options or CalibrationOptions()).threads
    if isinstance(model, Network):
        network = model
    else:
        network = prepare(model if isinstance(model, Source) else load(model), selection)
    if plan is not None:
        decided = own_plan(network, plan if isinstance(plan, Plan) else load_plan(plan))
        network = planned(network, decided)
    require_coverage(network, allow_partial)
    if plan is not None and levels is not None:
        raise OptionError("a plan and levels exclude each other", "a plan holds the levels of its sites")
    if observed and (plan is not None or calibration is None or isinstance(calibration, Synthetic)):
        raise OptionError("parts of a calibration without its data", "give the data that they were observed on")
    if plan is not None:
        dataset = calibration if isinstance(calibration, Dataset) else None  # for checks alone
        given = check_source(network, dataset, threads)
    else:
        settings = settings_of(network, time_steps, coding, method, form, options)
        auto = levels if isinstance(levels, Auto) else None
        if levels is not None and not isinstance(levels, Auto):
            settings = replace(settings, levels=levels)
        require_levels(network, settings, target)
        if isinstance(calibration, Synthetic):
            dataset = made_up(network.source, calibration, images, settings)
            with on_made_up():
                given = check_source(network, dataset, threads)
            decided = make_plan(network, dataset, settings, progress, auto, synthetic=True)
            warnings.warn(UNREAL.format(what=decided.notes["synthetic"]), ConversionWarning, stacklevel=2)
        else:
            dataset = None
            if calibration is not None:
                dataset = dataset_for(network.source, calibration, images)
            given = check_source(network, dataset, threads)
            decided = make_plan(network, dataset, settings, progress, auto, observed=observed)
    if len(decided.sites) < len(network.coverage.sites):  # calibration left some analogue
        network = planned(network, decided)
        require_coverage(network, allow_partial)
    measure = partial(_beyond, network, decided, form, dataset, images, threads)
    proto, apart = spiking_model(network, decided, form, precision, measure, target), None
    if (form, precision) != ("folded", "source"):
        apart = check_form(network, decided, form, precision, proto, dataset, images, threads)
    check(network, proto, given if dataset is not None else None, threads)
    conversion = Conversion(proto, decided, network, form, precision, apart, target)
    if output is not None:
        conversion.save(output)
    return conversion


def settings_of(
    network: Network,
    time_steps: int | None,
    coding: str,
    method: str,
    form: str,
    options: CalibrationOptions | None = None,
) -> CalibrationOptions:
    """How `convert` calibrates with these arguments, apart from the levels of sites."""
    own = own_time_steps(network, coding) if time_steps is None else None
    steps = (own or STEPS) if time_steps is None else time_steps
    given = options or CalibrationOptions()
    return replace(given, time_steps=steps, coding=coding, method=method, exact_padding=form == "integer")


def require_levels(network: Network, settings: CalibrationOptions, target: str) -> None:
    """Raises FormError, which names the site, where a target has not as many levels."""
    TARGETS[target].require_levels({site.name: settings.levels_at(site.name) for site in network.coverage.sites})


def make_plan(
    network: Network,
    dataset: Dataset | None,
    options: CalibrationOptions,
    progress: Progress,
    auto: Auto | None = None,
    synthetic: bool = False,
    observed: Sequence[str | Path] = (),
) -> Plan:
    """The plan for a network: read off its QCFS chains where there is no data, else calibrated.

    auto: a budget; the levels are then measured first and replace those of the options. synthetic: whether the dataset
    is made up. observed: the parts that `observe` wrote.
    """
    source, coverage = network.source, network.coverage
    tool = f"graphpass {version('graphpass')}"
    if dataset is None:
        read = [qcfs_plan(site, options.levels_at(site.name)) for site in coverage.sites]
        if auto or any(site is None for site in read):
            raise OptionError(
                f"{source.path}: converting it needs calibration data",
                "give --calibration DATA, or --plan with a saved plan; without any data: --synthetic",
            )
        sites = tuple(site for site in read if site is not None)
        left = coverage.left
        return Plan(options.time_steps, options.coding, QCFS, sites, (), left, source.digest, tool=tool)
    batch = fixed_batch(input_specs(source))
    notes = {}
    if synthetic:
        options = for_made_up(coverage, options)
    if auto:
        options, notes["levels"] = choose(network.graph, coverage, dataset, options, auto, batch, progress)
    if synthetic:
        plan = synthetic_plan(source, network.graph, coverage, dataset, options, progress)
    else:
        plan = calibrate(network.graph, coverage, dataset, options, batch, progress, observed)
    notes = {**plan.notes, **notes}
    return replace(
        left_by(network, plan), model_digest=source.digest, data_digest=dataset.digest, tool=tool, notes=notes
    )


def observe(
    network: Network,
    dataset: Dataset,
    options: CalibrationOptions,
    path: str | Path,
    start: int = 0,
    stop: int | None = None,
    progress: Progress = silent,
) -> int:
    """Run samples start … stop − 1, by default all, through the original network and write what calibration needs of
    it: one part for `convert(observed=…)`.

    options: what `settings_of` returned. Returns how many samples the part has: both ends move up to the next whole
    batch. Raises CalibrationError, and DataError for bad data or data of unknown length.
    """
    batch = fixed_batch(input_specs(network.source))
    return observe_part(network.graph, network.coverage, dataset, options, path, start, stop, batch, progress)


def dataset_for(
    model: onnx.ModelProto | Source,
    data: Data,
    images: ImageOptions | None = None,
    allow_code: bool = False,
) -> Dataset:
    """Data for a model's inputs, from a path or from arrays; `file.py:function` only with allow_code."""
    if isinstance(data, Dataset):
        return data
    specs = input_specs(model)
    if isinstance(data, Mapping):
        return from_arrays(data, specs)
    return open_dataset(str(data), specs, images, allow_code)


def spiking_model(
    network: Network,
    plan: Plan,
    form: str,
    precision: str = OPTIONS["precision"].default,
    measure: Measure | None = None,
    target: str = OPTIONS["target"].default,
) -> onnx.ModelProto:
    """The network with the plan's neurons, written in a form and a precision for a target (see `emit`).

    It keeps its own metadata and gets ours.

    Raises PlanError for a plan of another network.
    """
    proto = emit(network.graph.copy(), plan, form, metadata(plan, form, precision), precision, measure, target)
    strange = keep_description(network.source.proto, proto)
    if strange:
        warnings.warn(
            f"{network.source.path}: its metadata {', '.join(strange)} is not kept: such keys describe a conversion",
            ConversionWarning,
            stacklevel=3,
        )
    return proto


def _beyond(
    network: Network,
    plan: Plan,
    form: str,
    dataset: Dataset | None,
    images: ImageOptions | None,
    threads: int,
    proto: onnx.ModelProto,
    names: Sequence[str],
) -> Mapping[str, float]:
    """Which tensors of a form have values that float16 cannot hold, on samples or made-up ones."""
    batches = sample_batches(network.source, plan, form, dataset, images, threads)
    return beyond_float16(proto, names, batches, threads)


def metadata(plan: Plan, form: str, precision: str = OPTIONS["precision"].default) -> dict[str, str]:
    """What the file says about itself, as ONNX metadata properties; docs/formats.md lists them."""
    keys = ("name", "kind", "input", "output", "layers", "levels", "lowest", "highest", "shape", "scale")
    sites = [
        {**{key: getattr(site, key) for key in keys}, "quantiser": site.quantiser and _short(site.quantiser)}
        for site in plan.sites
    ]
    values = {
        "version": version("graphpass"),
        "time_steps": plan.time_steps,
        "coding": plan.coding,
        "levels": plan.levels,
        "method": plan.method,
        "form": form,
        "precision": precision,
        "model_sha256": plan.model_digest,
        "data_sha256": plan.data_digest,
        "data": plan.notes.get("data", "given" if plan.data_digest else "none"),
        "sites": json.dumps(sites),
        "left": json.dumps([asdict(entry) for entry in plan.left]),
    }
    return {f"{PREFIX}{key}": str(value) for key, value in values.items()}


def _short(levels: Levels) -> dict[str, list[float]]:
    """Numbers with as few digits as tell float32 values apart."""
    return {name: [float(str(value)) for value in values] for name, values in vars(levels).items()}


def check(network: Network, proto: onnx.ModelProto, given: GivenRun | None, threads: int = 0) -> None:
    """Raises ModelError unless onnxruntime loads the result and its outputs are finite where the given network's are.

    given: a run of that on data; None where there is none.
    """
    try:
        spiking = open_session(proto, threads=threads, use_native=False)  # as a stock runtime runs it
    except SessionError as error:
        raise ModelError(
            f"{network.source.path}: onnxruntime does not load the network that it was converted to ({error.what})",
            f"export the model with opset {TARGET_OPSET}, or report this",
        ) from error
    if given is None:
        return
    for name, values in run(spiking, given.inputs).items():
        before = given.outputs[name]
        same = np.issubdtype(values.dtype, np.floating) and values.shape == before.shape
        if same and not np.isfinite(values[np.isfinite(before)]).all():
            raise ModelError(
                f"{network.source.path}: output {name!r} of the converted network is not finite", "report this"
            )


def check_form(
    network: Network,
    plan: Plan,
    form: str,
    precision: str,
    proto: onnx.ModelProto,
    dataset: Dataset | None,
    images: ImageOptions | None = None,
    threads: int = 0,
) -> Distance | None:
    """How far a form is from the folded form, in the network's own precision; None without inputs to measure it with.

    Raises FormError where it is another function; warns (ConversionWarning) of what is notable.
    """
    folded = emit(network.graph.copy(), plan, "folded", metadata(plan, "folded"))
    try:
        found = measured(network.source, plan, Forms(form, proto, folded, precision), dataset, images, threads)
    except SessionError:
        check(network, proto, None, threads)  # whether the form is the one that is not loaded
        raise
    if found and found.notable:
        warnings.warn(found.warning, ConversionWarning, stacklevel=3)
    return found
