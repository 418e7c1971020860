"""One conversion, or many conversions compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from graphpass import conversion, sweeps
from graphpass.command_options import CommandOptions
from graphpass.conversion import Conversion
from graphpass.files import path_to, require_targets
from graphpass.graph import model as models
from graphpass.graph.plan import Plan
from graphpass.inputs import (
    Data,
    Model,
    Numbers,
    PathLike,
    Texts,
    data_sources,
    dataset_of,
    model_sources,
    network_of,
    plan_sources,
    prepares_images,
    takes_images,
)
from graphpass.maths.threads import limited_threads
from graphpass.options.rules import require_images
from graphpass.options.table import SEVERAL
from graphpass.progress import Progress, silent
from graphpass.searching.search import search as cheapest
from graphpass.searching.trials import Found, Trial
from graphpass.sweeps import Row


def convert(
    model: Model,
    calibration: Data | None = None,
    output: PathLike | None = None,
    *,
    time_steps: int | None = None,
    coding: str | None = None,
    method: str | None = None,
    form: str | None = None,
    precision: str | None = None,
    target: str | None = None,
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
    preset: str | None = None,
    preprocess: PathLike | Mapping[str, Any] | None = None,
    image_size: int | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    allow_code: bool = False,
    progress: Progress = silent,
) -> Conversion:
    """Convert a network into a spiking one, and write it to `output` if that is given.

        conversion = graphpass.convert("ann.onnx", "images.npz", "snn.onnx", time_steps=4)
        conversion.plan.time_steps, conversion.network.coverage.left

    model: the path of an .onnx, an onnx.ModelProto, or what `load` returned (read once, converted many times).
    calibration: inputs like those that the network will meet, without labels; 256 to 1,024 samples are usually enough.
    A path (.npz, .npy, a folder of shards or of images), a dict of arrays by input name, one array for a model with one
    input, a DataLoader or another iterable of samples or batches (docs/data.md), or what `open_dataset` returned; axis
    0 counts the samples. Not needed for a network that was trained with QCFS.
    output: a path, but not that of a file that is read. The file appears only when it is complete.

    time_steps: T, 1 or more; default 8, or the network's own if it was trained with QCFS.
    coding: how a count is sent, "rate" (T + 1 levels, the default) or "phase" (2^T levels).
    method: of calibration, "optimal" (the default), "da-qcfs", "percentile" or "max".
    form: "folded" (one pass, the default), "unrolled" (time-major binary spikes) or "integer" (uint8 counts, int8
    weights).
    precision: "source" (the types of the network, the default) or "float16": weights and tensors in half precision,
    with the inputs and outputs of the network as they are. What stays float32 is listed (docs/formats.md).
    target: of the integer form, "onnxruntime" (the default; OpenVINO reads it, too) or "tensorrt" (int8 alone, zero
    points of 0, at most 128 levels; docs/runtimes.md).
    levels: "auto" gives each site as many levels as the outputs need, within a budget: energy is a share of the
    additions that T levels everywhere would take (default 0.5), mean_levels a mean over all neurons. Or {name of a
    site: levels}; all other sites have all levels of T.
    plan: what `save_plan` wrote, or `conversion.plan`. It is applied without data and replaces the calibration.
    synthetic: calibrate on `limit` made-up samples (default 256). A ConversionWarning says that it costs accuracy.
    include, exclude: regular expressions. Sites whose name matches none of include, or one of exclude, stay analogue.
    identity_sites: put neurons also in front of layers whose input comes not from activations, or not from them alone.
    allow_partial: convert although sites that should be converted cannot be.
    limit: use at most this many calibration samples. seed: for the random positions of samples, default 0.
    memory_budget: memory for calibration, in bytes or as "512MiB"; default "2GiB". threads: default 0, all cores.
    image_size, mean, std: how images become arrays, (pixels/255 − mean)/std: those of a folder, and made-up ones.
    Defaults: 224 where the model leaves the size open, 0 and 1. mean and std: one number, or one for each channel.
    preset, preprocess: the same by name ("imagenet"), or as the preprocessor_config.json of a processor of Hugging
    Face, its path or its contents.
    allow_code: whether a path "file.py:function" may be given as data; the file is then run.
    progress: called with the name of a step, how much of it is done and how much there is.

    Raises subclasses of graphpass.GraphpassError, in one line with a remedy: OptionError, ModelError, DataError,
    PlanError, CalibrationError, FormError where another form would be another function than the folded one, and
    CoverageError where a site that should be converted cannot be.
    """
    given = locals()
    choices = CommandOptions("convert", given)
    options = choices.calibration()
    if output is not None:
        output = path_to(output)
        read = [*model_sources(model), *data_sources(calibration), *plan_sources(plan)]
        require_targets([(output, models.companions(output))], read)
    network = network_of(model, choices.selection())
    data = None
    if calibration is not None:
        data = dataset_of(calibration, network.source.proto, choices.images(), allow_code, choices("limit"))
    if not prepares_images(calibration, data) and not (synthetic and takes_images(network)):
        require_images(given)
    return conversion.convert(
        network,
        choices.synthetic() or data,
        output,
        **choices.conversion(),
        plan=plan if plan is None or isinstance(plan, Plan) else path_to(plan, "a plan"),
        images=choices.images(),
        options=options,
        levels=choices.levels(),
        progress=progress,
    )


def sweep(
    model: Model,
    calibration: Data,
    data: Data,
    *,
    time_steps: int | Sequence[int] | None = None,
    coding: Texts | None = None,
    method: Texts | None = None,
    metric: Texts | None = None,
    energy_model: str | None = None,
    include: Texts | None = None,
    exclude: Texts | None = None,
    identity_sites: bool = False,
    allow_partial: bool = False,
    calibration_limit: int | None = None,
    limit: int | None = None,
    seed: int | None = None,
    memory_budget: int | str | None = None,
    threads: int | None = None,
    preset: str | None = None,
    preprocess: PathLike | Mapping[str, Any] | None = None,
    image_size: int | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    cache: PathLike | None = None,
    allow_code: bool = False,
    progress: Progress = silent,
) -> tuple[Row, ...]:
    """Convert and evaluate for many T, codings and methods: a row for each method, coding and T, in this order.

        rows = graphpass.sweep("ann.onnx", "images.npz", "labelled.npz", time_steps=[2, 4, 8])
        [(row.time_steps, row.evaluation.snn.top1) for row in rows]

    model, calibration: as for `convert`. data: as for `evaluate`. Nothing is written but the cache.
    time_steps: one or several, default 1, 2, 4, 8, 16, 32. coding, method: one or several, default "rate", "optimal".
    cache: a folder that keeps what each step found: the same sweep, or another one of this network, goes on there.
    calibration_limit: use at most this many calibration samples; limit: at most this many labelled samples.
    All other options are as for `convert` and `evaluate`, and so are the errors. A combination that makes no sense is
    an error before the first conversion.
    """
    given = locals()
    choices = CommandOptions("sweep", given, several=SEVERAL)
    options = choices.evaluation(allow_code)
    with limited_threads(options.threads):
        network = network_of(model, choices.selection())
        both = [
            dataset_of(each, network.source.proto, choices.images(), allow_code, choices(limit))
            for each, limit in ((calibration, "calibration_limit"), (data, "limit"))
        ]
        if not any(map(prepares_images, (calibration, data), both)):
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
            cache=choices("cache"),
            progress=progress,
        )
    return tuple(rows)


def search(
    model: Model,
    calibration: Data,
    evaluation: Data,
    output: PathLike | None = None,
    *,
    max_drop: float | None = None,
    minimise: str | None = None,
    time_steps: int | None = None,
    coding: str | None = None,
    method: str | None = None,
    form: str | None = None,
    precision: str | None = None,
    target: str | None = None,
    metric: Texts | None = None,
    energy_model: str | None = None,
    include: Texts | None = None,
    exclude: Texts | None = None,
    identity_sites: bool = False,
    allow_partial: bool = False,
    limit: int | None = None,
    seed: int | None = None,
    memory_budget: int | str | None = None,
    threads: int | None = None,
    preset: str | None = None,
    preprocess: PathLike | Mapping[str, Any] | None = None,
    image_size: int | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    cache: PathLike | None = None,
    allow_code: bool = False,
    tried: Callable[[Trial], None] = lambda trial: None,
    progress: Progress = silent,
) -> Found:
    """Find the cheapest spiking network that loses at most `max_drop`, and write it to `output` if that is given.

        found = graphpass.search("ann.onnx", "images.npz", "labelled.npz", "snn.onnx", max_drop=1.0)
        found.conversion, found.drop, [(trial.setting, trial.drop, trial.energy) for trial in found.trials]

    model, calibration, output: as for `convert`. evaluation: as the data of `evaluate`; settings are judged on one half
    of it, and the chosen network on the other.
    max_drop: in points of the metric (docs/search.md): of top-1, or of agreement with the network where there are no
    labels. minimise: "energy" (the default), "time-steps" or "latency".
    time_steps: the largest T that is tried, default 32. coding: the only code that is tried, default both.
    metric: of `evaluate`; the first one decides. limit: use at most this many calibration samples.
    cache: a folder that keeps what each step found, so that the next call goes on there. tried: is called with each
    trial. All other options are as for `convert` and `evaluate`, and so are the errors.

    Nothing is raised where no setting is good enough: `found.conversion` is None, nothing is written, and
    `found.demanding` names the sites that stand in the way.
    """
    given = locals()
    choices = CommandOptions("search", given)
    goal, settings = choices.goal(), choices.evaluation(allow_code)
    if output is not None:
        output = path_to(output)
        read = [*model_sources(model), *data_sources(calibration), *data_sources(evaluation)]
        require_targets([(output, models.companions(output))], read)
    network = network_of(model, choices.selection())
    rows, judged = (
        dataset_of(each, network.source.proto, choices.images(), allow_code, limit)
        for each, limit in ((calibration, choices("limit")), (evaluation, None))
    )
    if not any(map(prepares_images, (calibration, evaluation), (rows, judged))):
        require_images(given)
    options = replace(choices.calibration(), method=choices("method"))
    with limited_threads(settings.threads):
        found = cheapest(
            network,
            rows,
            judged,
            goal,
            form=choices("form"),
            precision=choices("precision"),
            target=choices("target"),
            allow_partial=allow_partial,
            options=options,
            evaluation=replace(settings, limit=None),
            cache=choices("cache"),
            tried=tried,
            progress=progress,
        )
    if output is not None and found.conversion is not None:
        found.conversion.save(output)
    return found
