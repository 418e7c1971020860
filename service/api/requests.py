"""What the routes take: strict pydantic models, unknown fields refused, an example each."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

_BODY = "[0-9a-hjkmnp-tv-z]"  # base32 without i, l, o, u
ModelId = Annotated[str, StringConstraints(pattern=rf"^mod_{_BODY}{{26}}$")]
DatasetId = Annotated[str, StringConstraints(pattern=rf"^dat_{_BODY}{{26}}$")]
SnnId = Annotated[str, StringConstraints(pattern=rf"^(mod|con)_{_BODY}{{26}}$")]

Coding = Literal["rate", "phase"]
Method = Literal["optimal", "da-qcfs", "percentile", "max"]
Provider = Literal["cpu", "cuda"]
Form = Literal["folded", "unrolled", "integer"]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
MetricName = Annotated[
    str,
    StringConstraints(pattern=r"^(classes|ctc|embedding|psnr|detection|regression)(:[\w=.,/:-]+)?$", max_length=300),
]
Metrics = Annotated[
    list[MetricName],
    Field(max_length=6, description="What to measure; none: classes, where an output holds scores. No functions."),
]
TimeSteps = Annotated[int, Field(ge=1, le=4096)]
Number = Annotated[float, Field(allow_inf_nan=False)]

MODEL, CALIBRATION = "mod_01jdhq3n7s0h5kydfm6pvra2ce", "dat_01jdhq3rd6p3tj7mwf4nqzsb2e"
EVALUATION, CONVERSION = "dat_01jdhq3sh7q4k2nxg5rytc3fjn", "con_01jdhq3t2r5v3yh6pszd4gk0wa"
UPLOAD = "upl_01jdhq3j3s6wm4pz7qtave5h0p"


class Strict(BaseModel):
    """No field beside those named, and no value that has to be guessed at."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Images(Strict):
    """How a folder of images becomes arrays; without meaning for other data."""

    image_size: Annotated[int, Field(ge=1, le=4096, description="Side of the images, if the model leaves it open.")] = (
        224
    )
    mean: Annotated[
        list[Number],
        Field(min_length=1, max_length=16, description="Subtracted from pixels/255; one, or one a channel."),
    ] = [0.0]
    std: Annotated[
        list[Number], Field(min_length=1, max_length=16, description="Then divided by; one, or one a channel.")
    ] = [1.0]


class Sites(Images):
    """Which sites get neurons, and how many samples are read."""

    include: Annotated[
        list[Pattern], Field(max_length=100, description="Only sites whose node name matches one of these patterns.")
    ] = []
    exclude: Annotated[
        list[Pattern], Field(max_length=100, description="Leave sites whose node name matches one of these analogue.")
    ] = []
    identity_sites: Annotated[bool, Field(description="Neurons in front of layers that no activation feeds.")] = False
    allow_partial: Annotated[bool, Field(description="Convert although sites that should convert cannot.")] = False
    limit: Annotated[int | None, Field(ge=1, description="Use at most so many samples.")] = None
    seed: Annotated[int, Field(ge=0, lt=2**63, description="Of the sampled positions; same seed, same plan.")] = 0


class ConversionOptions(Sites):
    """The options of `graphpass convert`, under the same names and with the same defaults."""

    time_steps: Annotated[
        TimeSteps | None, Field(description="T; null: 8, or the network's own if it was trained with QCFS.")
    ] = None
    coding: Annotated[Coding, Field(description="rate (T + 1 levels) or phase (2^T levels).")] = "rate"
    method: Annotated[Method, Field(description="How thresholds are calibrated.")] = "optimal"
    form: Annotated[Form, Field(description="What the converted network is written as.")] = "folded"
    synthetic: Annotated[
        bool,
        Field(
            description="Without calibration data: make inputs up, `limit` of them (256). It costs accuracy, and the "
            "network says so for good; evaluate it."
        ),
    ] = False
    levels: Annotated[
        Literal["auto"] | None,
        Field(description="auto: each site as many levels as the outputs need of it, up to T's; null: all T's."),
    ] = None
    energy: Annotated[
        float | None,
        Field(gt=0, le=1, description="Budget of auto: additions, as a share of those at T everywhere; null: 0.5."),
    ] = None
    mean_levels: Annotated[
        float | None,
        Field(ge=2, le=256, description="Budget of auto in place of energy: levels, mean over all neurons."),
    ] = None
    metric: Metrics = []


class EvaluationOptions(Images):
    """The options of `graphpass evaluate`, and where the networks run."""

    metric: Metrics = []
    limit: Annotated[int | None, Field(ge=1, description="Use at most so many samples.")] = None
    provider: Annotated[Provider, Field(description="cuda: on a worker of the queue gpu.")] = "cpu"


class SweepOptions(Sites):
    """The options of `graphpass sweep`: every combination is converted and evaluated."""

    time_steps: Annotated[list[TimeSteps], Field(min_length=1, max_length=16)] = [1, 2, 4, 8, 16, 32]
    coding: Annotated[list[Coding], Field(min_length=1, max_length=2)] = ["rate"]
    method: Annotated[list[Method], Field(min_length=1, max_length=4)] = ["optimal"]
    metric: Metrics = []
    calibration_limit: Annotated[int | None, Field(ge=1, description="Calibrate on at most so many samples.")] = None


class ConversionRequest(Strict):
    """Convert `model`, calibrated on `calibration` or on made-up inputs; then evaluate on `evaluation`, if given."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": MODEL,
                    "calibration": CALIBRATION,
                    "evaluation": EVALUATION,
                    "options": {"time_steps": 4, "coding": "rate", "method": "optimal", "form": "folded"},
                },
                {
                    "model": MODEL,
                    "evaluation": EVALUATION,
                    "options": {"time_steps": 16, "synthetic": True, "metric": ["ctc:blank=0"]},
                },
            ]
        }
    )
    model: ModelId
    calibration: Annotated[
        DatasetId | None, Field(description="Needed unless `synthetic` is set or the network was trained with QCFS.")
    ] = None
    evaluation: DatasetId | None = None
    options: ConversionOptions = ConversionOptions()


class EvaluationRequest(Strict):
    """Compare `ann` with `snn` (an uploaded model or a conversion) on `dataset`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"ann": MODEL, "snn": CONVERSION, "dataset": EVALUATION, "options": {}}]}
    )
    ann: ModelId
    snn: SnnId
    dataset: DatasetId
    options: EvaluationOptions = EvaluationOptions()


class SweepRequest(Strict):
    """Convert `model` for many T, codings and methods, and evaluate each on `dataset`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": MODEL,
                    "calibration": CALIBRATION,
                    "dataset": EVALUATION,
                    "options": {"time_steps": [2, 4, 8], "coding": ["rate", "phase"]},
                }
            ]
        }
    )
    model: ModelId
    calibration: DatasetId
    dataset: DatasetId
    options: SweepOptions = SweepOptions()


class FromUpload(Strict):
    """Make a model or dataset of a finished resumable upload."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"upload": UPLOAD}]})
    upload: Annotated[str, StringConstraints(pattern=rf"^upl_{_BODY}{{26}}$")]
    name: Annotated[str | None, StringConstraints(min_length=1, max_length=200)] = None


JobRequest = ConversionRequest | EvaluationRequest | SweepRequest


def request_json(request: JobRequest) -> dict[str, Any]:
    """The request with all defaults written out, as the job's row keeps it."""
    return request.model_dump(mode="json")
