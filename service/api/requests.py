"""What the routes take: strict pydantic models, unknown fields refused, an example each.

Options have the names, help, defaults and limits of graphpass/options/table.py.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from graphpass.options.providers import HOSTED
from graphpass.options.table import OPTIONS
from graphpass.options.values import MOST_CHANNELS, MOST_LEVELS

_BODY = "[0-9a-hjkmnp-tv-z]"  # base32 without i, l, o, u
ModelId = Annotated[str, StringConstraints(pattern=rf"^mod_{_BODY}{{26}}$")]
DatasetId = Annotated[str, StringConstraints(pattern=rf"^dat_{_BODY}{{26}}$")]
SnnId = Annotated[str, StringConstraints(pattern=rf"^(mod|con|sea)_{_BODY}{{26}}$")]


def option(name: str, **more: Any) -> Any:
    """The field of an option: its help, and its limits beside the service's own."""
    known = OPTIONS[name]
    ends = {"ge": known.least, "le": known.most}
    return Field(description=known.help, **{end: value for end, value in (ends | more).items() if value is not None})


if TYPE_CHECKING:
    Coding = str
    Method = str
    Form = str
    Precision = str
    Target = str
    EnergyModel = str
    Minimise = str
    Preset = str
else:
    Coding, Method, Form, Precision, Target, EnergyModel, Minimise, Preset = (
        Literal[tuple(OPTIONS[name].names)]
        for name in ("coding", "method", "form", "precision", "target", "energy_model", "minimise", "preset")
    )
Provider = Annotated[str, StringConstraints(pattern=HOSTED, max_length=100)]
PATTERNS, IMAGE_NUMBERS = {"max_length": 100}, {"min_length": 1, "max_length": MOST_CHANNELS}
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
MetricName = Annotated[
    str, StringConstraints(pattern=rf"^({'|'.join(OPTIONS['metric'].names)})(:[\w=.,/:-]+)?$", max_length=300)
]
MetricNames = Annotated[list[MetricName], option("metric", max_length=len(OPTIONS["metric"].names))]
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

    preset: Annotated[Preset | None, option("preset")] = None
    preprocess: Annotated[dict[str, Any] | None, option("preprocess", max_length=100)] = None
    image_size: Annotated[int, option("image_size")] = OPTIONS["image_size"].default
    mean: Annotated[list[Number], option("mean", **IMAGE_NUMBERS)] = [OPTIONS["mean"].default]
    std: Annotated[list[Number], option("std", **IMAGE_NUMBERS)] = [OPTIONS["std"].default]


class Selected(Images):
    """Which sites get neurons, and how many samples are read."""

    include: Annotated[list[Pattern], option("include", **PATTERNS)] = []
    exclude: Annotated[list[Pattern], option("exclude", **PATTERNS)] = []
    identity_sites: Annotated[bool, option("identity_sites")] = OPTIONS["identity_sites"].default
    limit: Annotated[int | None, option("limit")] = None
    seed: Annotated[int, option("seed")] = OPTIONS["seed"].default


class Sites(Selected):
    """The same of a conversion, and whether it may be partial."""

    allow_partial: Annotated[bool, option("allow_partial")] = OPTIONS["allow_partial"].default


class ConversionOptions(Sites):
    """The options of `graphpass convert`, under the same names and with the same defaults."""

    time_steps: Annotated[TimeSteps | None, Field(description=OPTIONS["time_steps"].help)] = None
    coding: Annotated[Coding, option("coding")] = OPTIONS["coding"].default
    method: Annotated[Method, option("method")] = OPTIONS["method"].default
    form: Annotated[Form, option("form")] = OPTIONS["form"].default
    precision: Annotated[Precision, option("precision")] = OPTIONS["precision"].default
    target: Annotated[Target, option("target")] = OPTIONS["target"].default
    synthetic: Annotated[bool, option("synthetic")] = OPTIONS["synthetic"].default
    levels: Annotated[Literal["auto"] | None, option("levels")] = None
    energy: Annotated[float | None, option("energy", gt=0, le=1)] = None
    mean_levels: Annotated[float | None, option("mean_levels", ge=2, le=MOST_LEVELS)] = None
    metric: MetricNames = []
    energy_model: Annotated[EnergyModel, option("energy_model")] = OPTIONS["energy_model"].default


class EvaluationOptions(Images):
    """The options of `graphpass evaluate`, and where the networks run."""

    metric: MetricNames = []
    energy_model: Annotated[EnergyModel, option("energy_model")] = OPTIONS["energy_model"].default
    limit: Annotated[int | None, option("limit")] = None
    provider: Annotated[Provider, option("provider")] = OPTIONS["provider"].default


class RankingOptions(Selected):
    """The options of `graphpass inspect --calibration`."""

    time_steps: Annotated[TimeSteps | None, Field(description=OPTIONS["time_steps"].help)] = None
    coding: Annotated[Coding, option("coding")] = OPTIONS["coding"].default
    method: Annotated[Method, option("method")] = OPTIONS["method"].default


class SweepOptions(Sites):
    """The options of `graphpass sweep`: every combination is converted and evaluated."""

    time_steps: Annotated[
        list[TimeSteps], Field(description=OPTIONS["time_steps"].meaning, min_length=1, max_length=16)
    ] = list(OPTIONS["time_steps"].several)
    coding: Annotated[list[Coding], option("coding", min_length=1, max_length=len(OPTIONS["coding"].names))] = list(
        OPTIONS["coding"].several
    )
    method: Annotated[list[Method], option("method", min_length=1, max_length=len(OPTIONS["method"].names))] = list(
        OPTIONS["method"].several
    )
    metric: MetricNames = []
    energy_model: Annotated[EnergyModel, option("energy_model")] = OPTIONS["energy_model"].default
    calibration_limit: Annotated[int | None, option("calibration_limit")] = None


class SearchOptions(Sites):
    """The options of `graphpass convert --max-drop`."""

    max_drop: Annotated[float, Field(description=OPTIONS["max_drop"].help, gt=0, allow_inf_nan=False)]
    minimise: Annotated[Minimise, option("minimise")] = OPTIONS["minimise"].default
    time_steps: Annotated[TimeSteps | None, Field(description="The largest T that is tried; 32 if not given.")] = None
    coding: Annotated[Coding | None, Field(description="The only code that is tried; both if not given.")] = None
    method: Annotated[Method, option("method")] = OPTIONS["method"].default
    form: Annotated[Form, option("form")] = OPTIONS["form"].default
    precision: Annotated[Precision, option("precision")] = OPTIONS["precision"].default
    target: Annotated[Target, option("target")] = OPTIONS["target"].default
    metric: MetricNames = []
    energy_model: Annotated[EnergyModel, option("energy_model")] = OPTIONS["energy_model"].default


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


class RankingRequest(Strict):
    """Calibrate `model` once, and rank its sites by the error that each causes, on `evaluation` if it is given."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": MODEL, "calibration": CALIBRATION, "options": {"time_steps": 4}}]}
    )
    model: ModelId
    calibration: DatasetId
    evaluation: DatasetId | None = None
    options: RankingOptions = RankingOptions()


class SearchRequest(Strict):
    """Find the cheapest network of `model` within a loss: judged on one half of `dataset`, reported on the other."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": MODEL,
                    "calibration": CALIBRATION,
                    "dataset": EVALUATION,
                    "options": {"max_drop": 1.0, "minimise": "energy"},
                }
            ]
        }
    )
    model: ModelId
    calibration: DatasetId
    dataset: DatasetId
    options: SearchOptions


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


JobRequest = ConversionRequest | EvaluationRequest | RankingRequest | SearchRequest | SweepRequest


def request_json(request: JobRequest) -> dict[str, Any]:
    """The request with all defaults written out, as the job's row keeps it."""
    return request.model_dump(mode="json")
