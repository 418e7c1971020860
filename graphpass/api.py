"""The public functions. Each takes what a person has in hand: a path, a model, arrays, or what another one returned.

Options have the names, meanings and defaults of the command line; None is an option that is not given, and one that
would have no effect is refused (graphpass/options). Results are frozen dataclasses.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx
from onnx import inliner

from graphpass import conversion, inspection, sweeps
from graphpass.conversion import Conversion
from graphpass.datasets.dataset import Dataset
from graphpass.errors import OptionError
from graphpass.evaluation import evaluate as evaluation
from graphpass.evaluation.results import Evaluation
from graphpass.files import require_targets
from graphpass.graph import model as models
from graphpass.graph import plan as plans
from graphpass.graph.model import Source
from graphpass.graph.plan import Plan
from graphpass.inputs import (
    Data,
    Model,
    PathLike,
    SpikingModel,
    data_sources,
    dataset_of,
    has_images,
    model_sources,
    network_of,
    plan_sources,
    source_of,
    spiking_of,
    takes_images,
)
from graphpass.inspection import Inspection
from graphpass.network import Network
from graphpass.options.rules import require_images
from graphpass.options.table import OPTIONS, SEVERAL, VERIFIED
from graphpass.options.values import several_of
from graphpass.runtime import session as sessions
from graphpass.runtime.threads import limited_threads
from graphpass.settings import Settings
from graphpass.sweeps import Row
from graphpass.verification import forms
from graphpass.verification import integer as integers
from graphpass.verification.forms import Verification
from graphpass.verification.integer import Flips

Numbers = float | Sequence[float]
Texts = str | Sequence[str]
Progress = Callable[[str, int, int], None]  # what, done, of how many


def _silent(what: str, done: int, total: int) -> None:
    pass


def convert(
    model: Model,
    calibration: Data | None = None,
    output: PathLike | None = None,
    *,
    time_steps: int | None = None,
    coding: str | None = None,
    method: str | None = None,
    form: str | None = None,
    levels: str | Mapping[str, int] | None = None,
    energy: float | None = None,
    mean_levels: float | None = None,
    plan: PathLike | Plan | None = None,
    synthetic: bool = False,
    include: Texts | None = None,
    exclude: Texts | None = None,
    identity_sites: bool = False,
    allow_partial: bool = False,
    limit: int | None = None,
    seed: int | None = None,
    memory_budget: int | str | None = None,
    threads: int | None = None,
    image_size: int | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    allow_code: bool = False,
    progress: Progress = _silent,
) -> Conversion:
    """Convert a network into a spiking one, and write it to `output` if that is given.

        conversion = graphpass.convert("ann.onnx", "images.npz", "snn.onnx", time_steps=4)
        conversion.plan.time_steps, conversion.network.coverage.left

    model: the path of an .onnx, an onnx.ModelProto, or what `load` returned (read once, converted many times).
    calibration: inputs that are like those the network will meet, without labels; 256 to 1,024 samples are usually
    enough. A path (.npz, .npy, a folder of shards or of images), a dict of arrays by input name, one array for a model
    with one input, or what `open_dataset` returned; axis 0 counts the samples. Not needed for a network that was
    trained with QCFS.
    output: a path. It may not be one of the files that are read. Nothing is there before all of it is.

    time_steps: T, 1 or more; default 8, or the network's own if it was trained with QCFS.
    coding: how a count is sent, "rate" (T + 1 levels, the default) or "phase" (2^T levels).
    method: of calibration, "optimal" (the default), "da-qcfs", "percentile" or "max".
    form: "folded" (one pass, the default), "unrolled" (time-major binary spikes) or "integer" (uint8 counts, int8
    weights).
    levels: "auto", each site gets as many as the outputs need of it, within a budget: energy, a share of the additions
    at T everywhere (default 0.5), or mean_levels, over all neurons. Or {name of a site: levels}, the others have all.
    plan: what `save_plan` wrote, or `conversion.plan`: applied without data, instead of all that calibration decides.
    synthetic: make calibration data up, `limit` samples (default 256). It costs accuracy; a ConversionWarning says so.
    include, exclude: regular expressions; only sites whose name matches one, and none whose name matches one.
    identity_sites: neurons also in front of layers that activations do not feed, or not alone.
    allow_partial: convert although sites that should convert cannot.
    limit: use at most so many calibration samples. seed: of the sampled positions, default 0.
    memory_budget: for calibration, bytes or as "512MiB"; default "2GiB". threads: default 0, all cores.
    image_size, mean, std: how a folder of images, or made-up ones, become arrays, (pixels/255 − mean)/std; defaults
    224 where the model leaves it open, 0 and 1; one number, or one a channel.
    allow_code: whether a path "file.py:function" may be given as data; the file is then run.
    progress: called with what is done, how much of it and how much there is.

    Raises subclasses of graphpass.GraphpassError, in one line with a remedy: OptionError, ModelError, DataError,
    PlanError, CalibrationError, FormError where another form would be another function than the folded one, and
    CoverageError where a site that should be converted cannot be.
    """
    given = locals()
    choices = Settings("convert", given)
    options = choices.calibration()
    if output is not None:
        output = Path(output)
        read = [*model_sources(model), *data_sources(calibration), *plan_sources(plan)]
        require_targets([(output, models.companions(output))], read)
    with limited_threads(options.threads):
        network = network_of(model, choices.selection())
        data = None
        if calibration is not None:
            data = dataset_of(calibration, network.source.proto, choices.images(), allow_code)
        if not has_images(calibration) and not (synthetic and takes_images(network)):
            require_images(given)
        return conversion.convert(
            network,
            choices.synthetic() or data,
            output,
            **choices.conversion(),
            plan=plan if plan is None or isinstance(plan, Plan) else Path(plan),
            images=choices.images(),
            options=options,
            levels=choices.levels(),
            progress=progress,
        )


def evaluate(
    ann: Model,
    snn: SpikingModel,
    data: Data,
    *,
    metric: Texts | None = None,
    limit: int | None = None,
    threads: int | None = None,
    provider: str | None = None,
    image_size: int | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    allow_code: bool = False,
    progress: Progress = _silent,
) -> Evaluation:
    """Compare a converted network with its origin: accuracy, agreement, spikes, operations, energy, latency.

        found = graphpass.evaluate("ann.onnx", "snn.onnx", "labelled.npz")
        found.ann.top1, found.snn.top1, found.energy_snn / found.energy_ann

    ann: the network before conversion, as of `convert`. snn: a path, an onnx.ModelProto, or what `convert` returned.
    data: as of `convert`, with an array "labels" where there are any; without, only what needs none is measured.

    metric: what to measure: "classes" (the default, where an output holds class scores), "ctc", "embedding", "psnr",
    "detection" or "regression", with parameters as "ctc:blank=0", or "file.py:function"; one or several.
    limit: use at most so many samples. threads: default 0, all cores. provider: "cpu" (the default) or "cuda".
    image_size, mean, std, allow_code (also for metrics), progress: as of `convert`.

    `found.to_json()` is the document of docs/formats.md; `save_report` writes a page, `save_json` the document.
    Raises subclasses of graphpass.GraphpassError: OptionError, ModelError (the two do not belong together), DataError,
    SessionError.
    """
    given = locals()
    choices = Settings("evaluate", given)
    options = choices.evaluation(allow_code)
    source, (proto, digest) = source_of(ann), spiking_of(snn)
    with limited_threads(options.threads), sessions.required(options.providers):
        dataset = dataset_of(data, source.proto, choices.images(), allow_code)
        if not has_images(data):
            require_images(given)
        return evaluation.evaluate(source, proto, dataset, options, digest, progress)


def sweep(
    model: Model,
    calibration: Data,
    data: Data,
    *,
    time_steps: int | Sequence[int] | None = None,
    coding: Texts | None = None,
    method: Texts | None = None,
    metric: Texts | None = None,
    include: Texts | None = None,
    exclude: Texts | None = None,
    identity_sites: bool = False,
    allow_partial: bool = False,
    calibration_limit: int | None = None,
    limit: int | None = None,
    seed: int | None = None,
    memory_budget: int | str | None = None,
    threads: int | None = None,
    image_size: int | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    allow_code: bool = False,
    progress: Progress = _silent,
) -> tuple[Row, ...]:
    """Convert and evaluate for many T, codings and methods: a row for each method, coding and T, in this order.

        rows = graphpass.sweep("ann.onnx", "images.npz", "labelled.npz", time_steps=[2, 4, 8])
        [(row.time_steps, row.evaluation.snn.top1) for row in rows]

    model, calibration: as of `convert`. data: as of `evaluate`. Nothing is written.
    time_steps: one or several, default 1, 2, 4, 8, 16, 32. coding, method: one or several, default "rate", "optimal".
    calibration_limit: use at most so many calibration samples; limit: of the labelled ones.
    All other options: as of `convert` and `evaluate`. Raises what they raise, before the first conversion where a
    combination makes no sense.
    """
    lists = {
        "time_steps": OPTIONS["time_steps"].several if time_steps is None else several_of(time_steps),
        "coding": several_of(coding or OPTIONS["coding"].default),
        "method": several_of(method or OPTIONS["method"].default),
    }
    given = {**locals(), **lists}
    choices = Settings("sweep", given, several=SEVERAL)
    options = choices.evaluation(allow_code)
    with limited_threads(options.threads):
        network = network_of(model, choices.selection())
        both = [dataset_of(each, network.source.proto, choices.images(), allow_code) for each in (calibration, data)]
        if not has_images(calibration) and not has_images(data):
            require_images(given)
        rows = sweeps.sweep(
            network,
            *both,
            time_steps=choices("time_steps"),
            codings=choices("coding"),
            methods=choices("method"),
            allow_partial=allow_partial,
            options=choices.calibration("calibration_limit"),
            evaluation=options,
            progress=progress,
        )
    return tuple(rows)


def verify(
    snn: SpikingModel,
    data: Data,
    *,
    reference: SpikingModel | None = None,
    limit: int | None = None,
    threads: int | None = None,
    image_size: int | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    allow_code: bool = False,
) -> Verification | Flips:
    """Prove on data that the folded form, the unrolled form and the neuron's definition agree, count by count.

        graphpass.verify("snn.onnx", "images.npz").agrees

    snn: as of `evaluate`. data: as of `convert`; labels are not needed. limit: samples, default 64.
    reference: the folded form of an integer network, from the same plan: then both are compared, and Flips says which
    counts int8 weights changed.
    threads, image_size, mean, std, allow_code: as of `convert`. Raises subclasses of graphpass.GraphpassError:
    ModelError, DataError, SessionError; forms that do not agree are no error, but `agrees` is False.
    """
    given = locals()
    choices = Settings("verify", given)
    most, most_threads = choices("limit") or VERIFIED, choices("threads")
    proto, _ = spiking_of(snn)
    with limited_threads(most_threads):
        dataset = dataset_of(data, proto, choices.images(), allow_code)
        if not has_images(data):
            require_images(given)
        if reference is None:
            return forms.verify(proto, dataset, most, threads=most_threads)
        return integers.flips(proto, spiking_of(reference)[0], dataset, most, threads=most_threads)


def inspect(
    model: Model, *, include: Texts | None = None, exclude: Texts | None = None, identity_sites: bool = False
) -> Inspection:
    """What a network holds, where neurons would go, and what would stay analogue and why. Nothing is run.

        graphpass.inspect("ann.onnx").sites

    model, include, exclude, identity_sites: as of `convert`. Raises ModelError, OptionError.
    """
    return inspection.inspect(network_of(model, Settings("inspect", locals()).selection()))


def inline(snn: SpikingModel, output: PathLike | None = None) -> onnx.ModelProto:
    """A copy with the function bodies of the neurons inlined, for runtimes without local functions.

    snn: as of `evaluate`. output: where it is written, if given. Raises ModelError, OptionError.
    """
    if output is not None:
        output = Path(output)
        require_targets([(output, models.companions(output))], model_sources(snn))
    inlined: onnx.ModelProto = inliner.inline_local_functions(spiking_of(snn)[0])
    if output is not None:
        models.save(inlined, output)
    return inlined


def open_session(
    model: Model | Conversion,
    providers: Sequence[str] | None = None,
    threads: int = 0,
    use_native: bool = True,
    use_blocked: bool = True,
) -> sessions.Session:
    """An onnxruntime.InferenceSession over a network, converted or not, with the native neurons where there are some.

        session = graphpass.open_session("snn.onnx")
        session.run(None, {"image": images}), session.neurons

    model: a path, an onnx.ModelProto, or what `load` or `convert` returned. providers: of onnxruntime, in order of
    preference, default the CPU. threads: 0 for all cores. use_native: run neurons as native operators where the
    library has kernels for the first provider, else as function bodies; `session.neurons` says which. use_blocked: in
    the layout of onnxruntime's convolutions where that is possible (docs/native.md); outputs are the same.
    Raises SessionError; warns (ProviderWarning) where a provider that was asked for is not the one that runs.
    """
    if isinstance(model, Network):
        model = model.source
    proto = model.proto if isinstance(model, Source | Conversion) else model
    opened = proto if isinstance(proto, onnx.ModelProto) else Path(proto)
    return sessions.open_session(opened, providers, threads, use_native, use_blocked)


def load(model: PathLike | onnx.ModelProto) -> Source:
    """A network that is read, checked and brought to a newer opset once, for functions that take a model.

    model: a path, or an onnx.ModelProto with its weights. Raises ModelError for what is damaged, UnsupportedModelError
    naming the node for what this tool refuses.
    """
    return source_of(model)


def open_dataset(
    data: Data,
    model: Model | Conversion,
    *,
    image_size: int | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    allow_code: bool = False,
) -> Dataset:
    """Data for a model's inputs, checked once, for functions that take data.

        graphpass.open_dataset("images.npz", "ann.onnx").samples

    data, model, image_size, mean, std, allow_code: as of `convert`, a dict or a file with "labels" where there are any.
    Raises DataError naming file, array and remedy where it does not fit the model.
    """
    given = locals()
    images = Settings("open_dataset", given).images()
    proto = spiking_of(model)[0] if isinstance(model, Conversion) else source_of(model).proto
    dataset = dataset_of(data, proto, images, allow_code)
    if not has_images(data):
        require_images(given)
    return dataset


def load_plan(path: PathLike) -> Plan:
    """A plan that `save_plan`, or `graphpass convert --plan-out`, wrote. path: of the JSON; its .npz lies beside it.

    Raises PlanError naming what is wrong in it, and where.
    """
    return plans.load_plan(Path(path))


def save_plan(plan: Plan, path: PathLike) -> None:
    """Write a plan, as `conversion.plan`, to a path as JSON that can be edited; new weights go to an .npz beside it.

    Raises PlanError where that is not possible, OptionError for what is no plan.
    """
    if not isinstance(plan, Plan):
        raise OptionError(f"a plan cannot be of type {type(plan).__name__}", "give conversion.plan")
    plans.save_plan(plan, Path(path))


def save_report(found: Evaluation | Sequence[Row], path: PathLike) -> None:
    """Write what was found, by `evaluate` or `sweep`, to a path as a self-contained HTML page. Raises OptionError."""
    from graphpass.report.files import write_report  # loads plotly
    from graphpass.report.pages import evaluation_report, sweep_report

    write_report(evaluation_report(found) if isinstance(found, Evaluation) else sweep_report(found), Path(path))


def save_json(found: Evaluation | Sequence[Row], path: PathLike) -> None:
    """Write what was found, by `evaluate` or `sweep`, to a path as the JSON of docs/formats.md. Raises OptionError."""
    from graphpass.report.files import write_json

    write_json(found.to_json() if isinstance(found, Evaluation) else [row.to_json() for row in found], Path(path))
