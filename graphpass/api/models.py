"""Models and data, read once for several functions; what a model holds; sessions."""

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import inliner

from graphpass import inspection
from graphpass.command_options import CommandOptions
from graphpass.conversion import Conversion, settings_of
from graphpass.datasets.dataset import Dataset
from graphpass.errors import OptionError
from graphpass.files import path_to, require_targets
from graphpass.graph import model as models
from graphpass.graph.model import Source
from graphpass.inputs import (
    Data,
    Model,
    Numbers,
    PathLike,
    SpikingModel,
    Texts,
    dataset_of,
    model_sources,
    network_of,
    prepares_images,
    source_of,
    spiking_of,
)
from graphpass.inspection import Inspection
from graphpass.network import Network
from graphpass.options.rules import require_images, require_value
from graphpass.options.table import SEVERAL
from graphpass.progress import Progress, silent
from graphpass.runtime import session as sessions
from graphpass.runtime.providers import Providers


def load(model: PathLike | onnx.ModelProto) -> Source:
    """A network that is read, checked and upgraded once, to be given to several functions.

    model: a path, or an onnx.ModelProto with its weights. Raises ModelError for a damaged model, and
    UnsupportedModelError, which names the node, for a model that graphpass does not take.
    """
    return source_of(model)


def open_dataset(
    data: Data,
    model: Model | Conversion,
    *,
    preset: str | None = None,
    preprocess: PathLike | Mapping[str, Any] | None = None,
    image_size: int | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    allow_code: bool = False,
) -> Dataset:
    """Data for a model's inputs, checked once, to be given to several functions.

        graphpass.open_dataset("images.npz", "ann.onnx").samples

    data, model, preset, preprocess, image_size, mean, std, allow_code: as for `convert`; a dict or a file may also hold
    "labels".
    Raises DataError, which names the file, the array and the remedy, where the data does not fit the model.
    """
    given = locals()
    images = CommandOptions("open_dataset", given).images()
    proto = spiking_of(model)[0] if isinstance(model, Conversion) else source_of(model).proto
    dataset = dataset_of(data, proto, images, allow_code)
    if not prepares_images(data, dataset):
        require_images(given)
    return dataset


def inspect(
    model: Model,
    calibration: Data | None = None,
    evaluation: Data | None = None,
    *,
    include: Texts | None = None,
    exclude: Texts | None = None,
    identity_sites: bool = False,
    time_steps: int | None = None,
    coding: str | None = None,
    method: str | None = None,
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
) -> Inspection:
    """What a network holds, where neurons would go, and what would stay analogue and why.

        graphpass.inspect("ann.onnx").sites
        graphpass.inspect("ann.onnx", "images.npz", time_steps=4).ranking.exclude

    calibration: with it, the network is calibrated, and its sites are ranked by the error of the outputs with neurons
    at each site alone; beside it stands the error with neurons at all others. Without it nothing is run, and only
    include, exclude and identity_sites have an effect.
    evaluation: other data that the errors are measured on. All other options are as for `convert`.
    Raises ModelError, OptionError, and with data the errors of `convert`.
    """
    given = locals()
    choices = CommandOptions("inspect", given)
    network = network_of(model, choices.selection())
    if evaluation is not None and calibration is None:
        raise OptionError("evaluation needs calibration: it is for ranking sites", "give calibration data, too")
    if calibration is None:
        return inspection.inspect(network)
    proto, images = network.source.proto, choices.images()
    rows = dataset_of(calibration, proto, images, allow_code, choices("limit"))
    others = None if evaluation is None else dataset_of(evaluation, proto, images, allow_code)
    if not any(map(prepares_images, (calibration, evaluation), (rows, others))):
        require_images(given)
    setting = {name: choices(name) for name in (*SEVERAL, "form")}
    options = settings_of(network, **setting, options=choices.calibration())
    return inspection.inspect_ranked(network, rows, options, others, progress)


def inline(snn: SpikingModel, output: PathLike | None = None) -> onnx.ModelProto:
    """A copy with the function bodies of the neurons inlined, for runtimes without local functions.

    snn: as for `evaluate`. output: a path to write the copy to, if given. Raises ModelError, OptionError.
    """
    if output is not None:
        output = path_to(output)
        require_targets([(output, models.companions(output))], model_sources(snn))
    inlined: onnx.ModelProto = inliner.inline_local_functions(spiking_of(snn)[0])
    if output is not None:
        models.save(inlined, output)
    return inlined


def open_session(
    model: Model | Conversion,
    providers: Providers | None = None,
    threads: int = 0,
    use_native: bool = True,
    use_blocked: bool = True,
) -> sessions.Session:
    """An onnxruntime.InferenceSession over a network, converted or not, with the native neurons where there are some.

        session = graphpass.open_session("snn.onnx")
        session.run(None, {"image": images}), session.neurons

    model: a path, an onnx.ModelProto, or what `load` or `convert` returned.
    providers: execution providers as onnxruntime takes them, in order of preference, default the CPU: names, or pairs
    of a name and options, as in [("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"]. CUDA does not
    round float32 to TF32 unless its options have `use_tf32`; `session.tf32` says whether it may.
    threads: 0 for all cores. use_native: run neurons as native operators where the library has kernels for the first
    provider, else as function bodies; `session.neurons` says which. use_blocked: run native neurons in the layout of
    onnxruntime's convolutions where that is possible (docs/native.md); the outputs are the same.
    Raises SessionError, also for options that the provider does not take; warns (ProviderWarning) where another
    provider runs than the one that was asked for.
    """
    require_value("threads", threads)
    if isinstance(model, Network):
        model = model.source
    proto = model.proto if isinstance(model, Source | Conversion) else model
    opened = proto if isinstance(proto, onnx.ModelProto) else path_to(proto, "a model")
    return sessions.open_session(opened, providers, threads, use_native, use_blocked)
