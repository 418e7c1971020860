"""A converted network, measured on data, and its forms, compared on data."""

from collections.abc import Mapping
from typing import Any

from graphpass.command_options import CommandOptions
from graphpass.evaluation import evaluate as evaluation
from graphpass.evaluation.results import Evaluation
from graphpass.inputs import (
    Data,
    Model,
    Numbers,
    PathLike,
    SpikingModel,
    Texts,
    converted_of,
    dataset_of,
    naming,
    prepares_images,
    source_of,
    spiking_of,
)
from graphpass.maths.threads import limited_threads
from graphpass.options.rules import require_images
from graphpass.options.table import VERIFIED
from graphpass.progress import Progress, silent
from graphpass.runtime import session as sessions
from graphpass.verification import forms
from graphpass.verification import integer as integers
from graphpass.verification.forms import Verification
from graphpass.verification.integer import Flips


def evaluate(
    ann: Model,
    snn: SpikingModel,
    data: Data,
    *,
    metric: Texts | None = None,
    energy_model: str | None = None,
    limit: int | None = None,
    threads: int | None = None,
    provider: str | None = None,
    preset: str | None = None,
    preprocess: PathLike | Mapping[str, Any] | None = None,
    image_size: int | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    allow_code: bool = False,
    progress: Progress = silent,
) -> Evaluation:
    """Compare a converted network with its origin: accuracy, agreement, spikes, operations, energy, latency.

        found = graphpass.evaluate("ann.onnx", "snn.onnx", "labelled.npz")
        found.ann.top1, found.snn.top1, found.total_energy_ratio, found.energy.verdict

    ann: the network before conversion, as for `convert`. snn: a path, an onnx.ModelProto, or what `convert` returned.
    data: as for `convert`, with an array "labels" if there are any. Without labels, only what needs none is measured.

    metric: what to measure, one or several of "classes" (the default where an output holds class scores), "ctc",
    "embedding", "psnr", "detection", "regression" and "perplexity", with parameters as in "ctc:blank=0", or
    "file.py:function".
    energy_model: how energy with memory traffic is estimated, "lemaire22" (the default) or "horowitz45"
    (docs/energy.md).
    limit: use at most this many samples. threads: default 0, all cores. provider: "cpu" (the default), "cuda",
    or "cuda" with options of onnxruntime, as in "cuda:device_id=1,use_tf32=1". Without use_tf32=1 float32 products are
    not rounded to TF32, which would change counts.
    preset, preprocess, image_size, mean, std, allow_code (also for metrics), progress: as for `convert`.

    `found.to_json()` is the document of docs/formats.md; `save_report` writes a page, `save_json` the document.
    Raises subclasses of graphpass.GraphpassError: OptionError, ModelError (the two do not belong together), DataError,
    SessionError.
    """
    given = locals()
    choices = CommandOptions("evaluate", given)
    options = choices.evaluation(allow_code)
    source, (proto, _, digest) = source_of(ann), converted_of(snn)
    with limited_threads(options.threads), sessions.required(options.providers):
        dataset = dataset_of(data, source.proto, choices.images(), allow_code, options.limit)
        if not prepares_images(data, dataset):
            require_images(given)
        return evaluation.evaluate(source, proto, dataset, options, digest, progress)


def verify(
    snn: SpikingModel,
    data: Data,
    *,
    reference: SpikingModel | None = None,
    limit: int | None = None,
    threads: int | None = None,
    preset: str | None = None,
    preprocess: PathLike | Mapping[str, Any] | None = None,
    image_size: int | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    allow_code: bool = False,
) -> Verification | Flips:
    """Prove on data that the folded form, the unrolled form and the neuron's definition agree, count by count.

        graphpass.verify("snn.onnx", "images.npz").agrees

    snn: as for `evaluate`. data: as for `convert`; labels are not needed. limit: number of samples, default 64.
    reference: the folded form of an integer network, from the same plan. Then the two are compared, and Flips says
    which counts the int8 weights changed.
    threads, preset, preprocess, image_size, mean, std, allow_code: as for `convert`. Raises subclasses of
    graphpass.GraphpassError: ModelError, DataError, SessionError. Forms that do not agree are not an error: `agrees` is
    False.
    """
    given = locals()
    choices = CommandOptions("verify", given)
    most, most_threads = choices("limit") or VERIFIED, choices("threads")
    proto, _ = spiking_of(snn)
    with limited_threads(most_threads):
        dataset = dataset_of(data, proto, choices.images(), allow_code, most)
        if not prepares_images(data, dataset):
            require_images(given)
        if reference is None:
            with naming(snn):
                return forms.verify(proto, dataset, most, threads=most_threads)
        integer, folded = (converted_of(each)[0] for each in (snn, reference))
        return integers.flips(integer, folded, dataset, most, threads=most_threads)
