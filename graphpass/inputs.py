"""Arguments of the public functions, turned into what the modules below take: models, data and their files."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray

from graphpass.conversion import Conversion, dataset_for
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.images import ImageOptions, is_image
from graphpass.datasets.iterables import is_iterable, open_iterable
from graphpass.datasets.parts import require_unmasked
from graphpass.datasets.sources import path_of
from graphpass.errors import DataError, ModelError, OptionError, wrong_type
from graphpass.evaluation.documents import read_evaluation, require_own
from graphpass.evaluation.results import ConversionFacts, Evaluation, conversion_of
from graphpass.files import path_to
from graphpass.graph.model import Source, load, model_files, read_with_digest
from graphpass.graph.plan import companions
from graphpass.graph.refusals import line
from graphpass.network import Network, prepare
from graphpass.runtime.session import input_specs
from graphpass.sites.sites import Selection
from graphpass.wording import counted

PathLike = str | os.PathLike[str]
Model = PathLike | onnx.ModelProto | Source | Network  # a network that was not converted
SpikingModel = PathLike | onnx.ModelProto | Conversion
Figures = PathLike | Evaluation
Data = PathLike | Mapping[str, ArrayLike] | np.ndarray | Dataset | Iterable[Any]
Numbers = float | Sequence[float]
Texts = str | Sequence[str]


def source_of(model: Model) -> Source:
    """The network before its conversion."""
    match model:
        case Network():
            return model.source
        case Source():
            return model
        case onnx.ModelProto():
            return load(model)
        case str() | os.PathLike():
            return load(path_to(model, "a model"))
        case Conversion():
            raise ModelError("this network was converted already", "give the network that it was converted from")
    raise wrong_type("a model", model, "a path, an onnx.ModelProto, or what graphpass.load returned")


def network_of(model: Model, selection: Selection) -> Network:
    """A network whose sites were found."""
    if isinstance(model, Network):
        if selection != Selection():
            raise OptionError("the sites of this network were selected already", "give the model itself")
        return model
    return prepare(source_of(model), selection)


def spiking_of(snn: SpikingModel) -> tuple[onnx.ModelProto, str]:
    """A converted network, and the sha256 of its file; an empty one where there was no file."""
    match snn:
        case Conversion():
            return snn.proto, ""
        case onnx.ModelProto():
            return snn, ""
        case str() | os.PathLike():
            return read_with_digest(path_to(snn, "a model"))
        case Source() | Network():
            raise ModelError("this network was not converted", "give the converted network")
    raise wrong_type("a converted model", snn, "a path, an onnx.ModelProto, or what graphpass.convert returned")


def converted_of(snn: SpikingModel) -> tuple[onnx.ModelProto, ConversionFacts, str]:
    """A converted network, its metadata, and the sha256 of its file; one that was not converted is named."""
    proto, digest = spiking_of(snn)
    with naming(snn):
        return proto, conversion_of(proto), digest


@contextmanager
def naming(snn: SpikingModel) -> Iterator[None]:
    """Inside, a ModelError is one of this network, and names its file."""
    try:
        yield
    except ModelError as error:
        where = snn if isinstance(snn, str | os.PathLike) else "the spiking model"
        raise type(error)(f"{where}: {error.what}", error.remedy) from error


def figures_of(figures: Figures, conversion: ConversionFacts, snn_digest: str) -> Evaluation:
    """An evaluation of the model with this metadata and this sha256."""
    match figures:
        case Evaluation():
            found = figures
        case str() | os.PathLike():
            found = read_evaluation(path_to(figures, "figures"), conversion)
        case _:
            raise wrong_type("figures", figures, "a path, or what graphpass.evaluate returned")
    require_own(found, conversion, snn_digest)
    return found


def takes_images(network: Network) -> bool:
    """Whether one of its inputs takes images, so that made-up inputs may be images."""
    return any(map(is_image, input_specs(network.source.proto)))


def dataset_of(
    data: Data, proto: onnx.ModelProto, images: ImageOptions, allow_code: bool = False, limit: int | None = None
) -> Dataset:
    """Data for a model's inputs. limit: how many samples of an iterable are wanted; None: all."""
    match data:
        case Dataset():
            known, wanted = ({spec.name: spec.dtype for spec in specs} for specs in (data.inputs, input_specs(proto)))
            if known != wanted:
                takes, holds = (
                    ", ".join(f"{name} ({dtype})" for name, dtype in each.items()) for each in (wanted, known)
                )
                raise DataError(
                    f"{data.description}: this data was opened for a model that takes {holds}, not {takes}",
                    "open it for this model",
                )
            return data
        case str() | os.PathLike():
            path_to(data, "data")
            return dataset_for(proto, os.fspath(data), images, allow_code)
        case Mapping():
            arrays = {str(name): _array(str(name), values) for name, values in data.items()}
            return dataset_for(proto, arrays, images)
    if hasattr(data, "__array__"):
        names = [spec.name for spec in input_specs(proto)]
        if len(names) != 1:
            given = f"one array for a model of {counted(len(names), 'input')}"
            raise DataError(given, f"give a dict with {', '.join(names)}")
        return dataset_for(proto, {names[0]: _array(names[0], data)}, images)
    if is_iterable(data) and not isinstance(data, bytes | bytearray | memoryview):
        return open_iterable(data, input_specs(proto), limit, images)
    raise wrong_type(
        "data", data, "a path, arrays, a DataLoader or another iterable, or what graphpass.open_dataset returned"
    )


def _array(name: str, values: Any) -> NDArray[Any]:
    require_unmasked("arrays", name, values)
    try:
        return np.asarray(values)
    except Exception as error:  # whatever a list of unequal lengths, or an array of another library, raises
        raise DataError(
            f"arrays: {name!r} cannot be made an array ({type(error).__name__}: {line(error)})",
            "give an array of numbers, the samples along its first axis",
        ) from error


def model_sources(model: Any) -> list[Path]:
    """The files that a model, converted or not, is read from; none for what is in memory."""
    if isinstance(model, Source | Network):
        path = model.path if isinstance(model, Source) else model.source.path
        return model_files(path)
    return model_files(Path(model)) if isinstance(model, str | os.PathLike) else []


def data_sources(data: Any) -> list[Path]:
    """The file or folder that data is read from; none for what is in memory."""
    return [path_of(os.fspath(data))] if isinstance(data, str | os.PathLike) else []


def plan_sources(plan: Any) -> list[Path]:
    """The files that a plan is read from; none for what is in memory, and for a folder, which will be refused."""
    read = isinstance(plan, str | os.PathLike) and not os.path.isdir(plan)
    return [Path(plan), *companions(Path(plan))] if read else []


def prepares_images(data: Any, dataset: Dataset | None) -> bool:
    """Whether data was opened here and is made of images; options of images apply to that alone."""
    return dataset is not None and dataset.images and not isinstance(data, Dataset)
