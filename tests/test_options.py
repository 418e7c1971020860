"""Options: the same ones on the command line, in Python and in the service, each obeyed or refused."""

import inspect
import math
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import typer
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from graphpass import api
from graphpass.calibration import calibrate
from graphpass.cli.app import app
from graphpass.command_options import CommandOptions
from graphpass.datasets.images import ImageOptions
from graphpass.errors import FormError, OptionError
from graphpass.evaluation import evaluate as evaluation
from graphpass.options.providers import runtime_providers
from graphpass.options.rules import RULES, dashed, require_options
from graphpass.options.table import AFTERWARDS, COMMANDS, OPTIONS, SEARCH, SEVERAL, is_default
from graphpass.options.values import LARGEST, bytes_of, most_threads, several_of
from graphpass.runtime import session as sessions
from graphpass.runtime.store import TensorStore
from service.api.requests import ConversionOptions, EvaluationOptions, RankingOptions, SearchOptions, SweepOptions
from tests.models import build, node
from tests.properties import examples

FUNCTIONS = {name: getattr(api, name) for name in COMMANDS}
REQUESTS = {
    "convert": ConversionOptions,
    "evaluate": EvaluationOptions,
    "inspect": RankingOptions,
    "search": SearchOptions,
    "sweep": SweepOptions,
}
REQUIRED = {"search": {"max_drop": 1.0}}
OPERATORS_OWN = {"threads", "memory_budget", "cache"}  # what whoever runs the service decides on
ELSEWHERE = {*AFTERWARDS, *SEARCH}  # of a conversion: in Python one calls `evaluate`, or `search`
OF_PYTHON = {
    name: sorted({*options} - (ELSEWHERE if name == "convert" else set())) for name, options in COMMANDS.items()
}


# one list for all


@pytest.mark.parametrize("command", COMMANDS)
def test_python_has_the_options_of_the_table(command: str) -> None:
    parameters = inspect.signature(FUNCTIONS[command]).parameters
    assert sorted(set(parameters) & set(OPTIONS)) == OF_PYTHON[command]
    for name in OF_PYTHON[command]:
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default in (None, False)  # not given


def parameters_of(command: str) -> dict[str, Any]:
    """The arguments and options of a command on the command line, by name."""
    root: Any = typer.main.get_command(app)
    first, _, second = command.partition("_")
    chosen = root.commands[first].commands[second] if second else root.commands[first]
    return {parameter.name: parameter for parameter in chosen.params}


TYPED = sorted(set(COMMANDS) - {"open_dataset", "search"})  # commands of the command line


@pytest.mark.parametrize("command", TYPED)
def test_the_command_line_has_the_options_of_the_table(command: str) -> None:
    found = parameters_of(command)
    assert set(found) & set(OPTIONS) == set(COMMANDS[command])
    for name in COMMANDS[command]:
        assert found[name].opts == [dashed(name)] and found[name].default in (None, False)
        default = OPTIONS[name].default
        if default not in (None, False):
            assert f"Default {default if isinstance(default, str) else format(default, 'g')}." in found[name].help


@pytest.mark.parametrize("command", TYPED)
def test_help_names_one_default_alone(command: str) -> None:
    for name, parameter in parameters_of(command).items():
        text = getattr(parameter, "help", None) or ""
        assert not ("not given" in text and "Default" in text), name


@pytest.mark.parametrize("command", REQUESTS)
def test_requests_have_the_options_of_the_table_and_its_defaults(command: str) -> None:
    fields = REQUESTS[command].model_fields
    elsewhere = set(SEARCH) if command == "convert" else set()  # a search is a job of its own
    assert set(fields) | OPERATORS_OWN == set(COMMANDS[command]) - elsewhere | OPERATORS_OWN
    for name, value in REQUESTS[command](**REQUIRED.get(command, {})).model_dump().items():
        usual = value in (None, []) or is_default(name, value) or (command, name) == ("sweep", "time_steps")
        assert usual or name in REQUIRED.get(command, {})


def test_the_defaults_are_those_of_the_dataclasses_that_take_them() -> None:
    start, images = calibrate.CalibrationOptions(), ImageOptions()
    assert (start.coding, start.method, start.seed) == tuple(
        OPTIONS[name].default for name in ("coding", "method", "seed")
    )
    assert start.memory == bytes_of(OPTIONS["memory_budget"].default)
    assert start.threads == evaluation.EvaluationSettings().threads == OPTIONS["threads"].default
    assert (images.mean, images.std) == ((OPTIONS["mean"].default,), (OPTIONS["std"].default,))
    assert evaluation.EvaluationSettings().providers == runtime_providers(OPTIONS["provider"].default)


@pytest.mark.parametrize("values", [ConversionOptions(mean=[0.5, 0.4, 0.3], seed=2**63 - 1), EvaluationOptions()])
def test_the_table_takes_what_requests_may_hold(values: ConversionOptions | EvaluationOptions) -> None:
    for name, value in values.model_dump().items():
        assert value in (None, []) or OPTIONS[name].check(value)


# values


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("time_steps", [1, np.int64(4), 10**18], [0, -1, True, 4.0, "4", math.nan, 2**63, [4], None.__class__]),
        ("energy", [0.5, 1, np.float32(0.25)], [math.nan, math.inf, "half", True, [0.5]]),
        ("seed", [0, 2**63 - 1], [-1, 2**63, 0.0]),
        ("threads", [0, 1, 16, most_threads()], [-1, most_threads() + 1, 1024 * 1024, 1.5]),
        ("memory_budget", ["2GiB", "1.5 GiB", "64", 64, np.int64(64), "512mb"],
         ["inf", "nan", "-1", -1, 0, math.inf, math.nan, "", "GiB", "1e3", "1XiB", "9" * 400, "1 iB", 2**63, True]),
        ("mean", [0.5, [0.1, 0.2, 0.3], (0,), np.array([0.5, 0.4]), -1], [math.nan, [math.inf], [], "0.5", [[0.5]]]),
        ("std", [0.5, [1, 2]], [0, [1, 0], -1, np.array(2.0)]),
        ("include", ["relu", ["a", "b"]], [[], 5, [5], {"a": 1}]),
        ("levels", ["auto", {"relu": 4}, {"a": np.int64(2)}], ["few", {"relu": 1}, {"relu": 257}, {1: 4}, 4, ["auto"]]),
        ("image_size", [1, 4096], [0, 4097, "224"]),
        ("sample", [0, 10**9], [-1, 1.0, "0"]),
        ("neurons", [1, 256], [0, 257]),
        ("site", ["relu1", ""], [3, ["relu1"]]),
        ("preset", ["imagenet"], ["ImageNet", "", 3, ["imagenet"], {}]),
        ("preprocess", ["preprocessor_config.json", {}, {"size": 224}], [3, None, ["a"], True]),
        ("synthetic", [True, False], [1, "yes"]),
        ("provider",
         ["cpu", "cuda", "cuda:device_id=0", "cuda:use_tf32=1,gpu_mem_limit=1.5GiB,cudnn_conv_algo_search=HEURISTIC"],
         ["gpu", 1, "", "cuda:", "cpu:", "cpu:device_id=0", "cuda:device_id", "cuda:device_id=", "cuda:device_id=-1",
          "cuda:use_tf32=yes", "cuda:use_tf32=0,use_tf32=1", "cuda:user_compute_stream=4096", "cuda,device_id=1",
          "cuda:gpu_external_alloc=1", "cuda:use_tf32=1\n", "cuda:use_tf32=1,", "CUDA", "cuda:use_tf32=1;device_id=2"]),
    ],
)  # fmt: skip
def test_values(name: str, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not OPTIONS[name].check(value)] == []
    assert [value for value in bad if OPTIONS[name].check(value)] == []


ANYTHING = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
    st.lists(st.integers() | st.floats() | st.text(), max_size=3),
    st.dictionaries(st.text(), st.integers()),
    st.sampled_from([object(), np.zeros((2, 2)), np.float32(1), np.array(3), 1j]),
)


@pytest.mark.parametrize("name", OPTIONS)
@given(value=ANYTHING)
def test_any_value_is_taken_or_refused(name: str, value: Any) -> None:
    assert OPTIONS[name].check(value) in (True, False)
    assert isinstance(several_of(value), tuple)


@given(st.text())
def test_any_text_is_a_size_or_none(text: str) -> None:
    if OPTIONS["memory_budget"].check(text):
        assert 0 <= bytes_of(text) < LARGEST


# what goes together


PAIRS = [
    (command, name, other, "excludes")
    for command, rules in RULES.items()
    for rule in rules
    for name, other in product(rule.options, rule.excludes)
] + [
    (command, name, rule.needs[0], "needs")
    for command, rules in RULES.items()
    for rule in rules
    if rule.needs
    for name in rule.options
]
VALUES: Mapping[str, Any] = {
    "time_steps": 4, "coding": "phase", "method": "max", "form": "unrolled", "precision": "float16",
    "target": "tensorrt", "levels": "auto", "energy": 0.9, "mean_levels": 4.0, "synthetic": True, "include": ["relu"],
    "exclude": ["relu2"], "identity_sites": True, "allow_partial": True, "metric": ["embedding"],
    "energy_model": "horowitz45", "limit": 8, "calibration_limit": 8, "seed": 3, "memory_budget": "64MiB",
    "threads": 1, "provider": "cpu", "image_size": 6, "mean": [0.5], "std": [0.5],
    "max_drop": 1.0, "minimise": "latency", "cache": "folder", "sample": 1, "neurons": 3, "site": "relu1", "channel": 0,
    "preset": "imagenet", "preprocess": {
        "size": {"height": 6, "width": 6}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    },
}  # fmt: skip


@pytest.mark.parametrize(("command", "name", "other", "kind"), PAIRS)
def test_each_rule_names_both(command: str, name: str, other: str, kind: str) -> None:
    present = {name, other} if kind == "excludes" else {name}
    values = {each: VALUES.get(each, "a file") for each in present}
    with pytest.raises(OptionError) as raised:
        require_options(command, values, dashed)
    assert dashed(name) in raised.value.what and dashed(other) in raised.value.what and raised.value.remedy


@pytest.mark.parametrize("command", [name for name in TYPED if "server" in parameters_of(name)])
def test_a_key_needs_a_service_which_decides_for_itself(command: str) -> None:
    with pytest.raises(OptionError, match="--key needs --server"):
        require_options(command, {"calibration": "a file", "key": "gp_key"}, dashed)
    for name in OPERATORS_OWN & set(COMMANDS[command]):
        with pytest.raises(OptionError, match=f"{dashed(name)} and --server exclude each other: the service decides"):
            require_options(command, {"calibration": "a file", "server": "url", name: VALUES[name]}, dashed)


@pytest.mark.parametrize("form", [None, "folded", "unrolled"])
@pytest.mark.parametrize("target", OPTIONS["target"].names)
def test_a_target_is_for_the_integer_form(form: str | None, target: str) -> None:
    with pytest.raises(OptionError, match="--target needs --form integer") as raised:
        require_options("convert", {"form": form, "target": target}, dashed)
    assert raised.value.option == "target" and "leave out --target" in raised.value.remedy
    require_options("convert", {"form": "integer", "target": target}, dashed)


def test_options_that_were_not_given_break_no_rule() -> None:
    for command, names in COMMANDS.items():
        require_options(command, dict.fromkeys([*names, "plan", "calibration", "server", "key", "json", "report"]))


# every option of a conversion is seen in what comes of it, or refused


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A network of images whose size is free, with two sites, a plan for it, arrays and a folder of images."""
    from tests.sources import save_image

    folder, random = tmp_path_factory.mktemp("options"), np.random.default_rng(0)
    nodes = [
        node("Conv", "x w1", "c1", "conv1", pads=[1, 1, 1, 1]), node("Relu", "c1", "r1", "relu1"),
        node("Conv", "r1 w2", "c2", "conv2", pads=[1, 1, 1, 1]), node("Relu", "c2", "r2", "relu2"),
        node("GlobalAveragePool", "r2", "p", "pool"), node("Flatten", "p", "f", "flatten"),
        node("Gemm", "f w3", "y", "fc"),
    ]  # fmt: skip
    weights = {"w1": (4, 3, 3, 3), "w2": (4, 4, 3, 3), "w3": (4, 10)}
    constants = {name: random.normal(size=shape).astype(np.float32) for name, shape in weights.items()}
    proto = build(nodes, {"x": ["N", 3, "H", "W"]}, {"y": ["N", 10]}, constants)
    onnx.save(proto, folder / "ann.onnx")
    arrays = {"x": random.normal(size=(16, 3, 6, 6)).astype(np.float32)}
    for number in range(9):
        save_image(folder / "images" / f"{number}.png", random.integers(0, 255, (9, 9, 3)).astype(np.uint8))
    plan = api.convert(folder / "ann.onnx", arrays, time_steps=6).plan
    return {"source": api.load(folder / "ann.onnx"), "arrays": arrays, "images": folder / "images", "plan": plan}


def _site(name: str) -> Callable[[Any], bool]:
    return lambda done: name in [site.name for site in done.plan.sites]


# option → whether a conversion, with what was recorded of it, obeyed its value of VALUES
OBEYED: Mapping[str, Callable[[Any, dict[str, Any]], bool]] = {
    "time_steps": lambda done, seen: done.plan.time_steps <= 4,  # T is the most that a site may take
    "coding": lambda done, seen: done.plan.coding == "phase",
    "method": lambda done, seen: done.plan.method == "max",
    "form": lambda done, seen: done.form == "unrolled",
    "precision": lambda done, seen: {tensor.data_type for tensor in done.proto.graph.initializer} >= {10},
    "target": lambda done, seen: 2 not in {tensor.data_type for tensor in done.proto.graph.initializer},  # uint8
    "levels": lambda done, seen: "levels" in done.plan.notes,
    "energy": lambda done, seen: "levels" in done.plan.notes,
    "mean_levels": lambda done, seen: np.mean([site.levels for site in done.plan.sites]) <= 4.0,
    "synthetic": lambda done, seen: done.plan.notes["data"] == "synthetic",
    "include": lambda done, seen: _site("relu1")(done),
    "exclude": lambda done, seen: not _site("relu2")(done),
    "identity_sites": lambda done, seen: (
        _site("relu2")(done)  # then an activation feeds every layer
        or "f/identity" in [*(site.name for site in done.plan.sites), *(left.node for left in done.plan.left)]
    ),
    "allow_partial": lambda done, seen: True,  # a permission, of which nothing here makes use
    "limit": lambda done, seen: done.plan.samples == 8,
    "seed": lambda done, seen: done.plan.seed == 3,
    "memory_budget": lambda done, seen: seen["budgets"] and max(seen["budgets"]) < 64 << 20,
    "threads": lambda done, seen: set(seen["threads"]) == {1},
    "image_size": lambda done, seen: (6, 6) in seen["sizes"],
    "mean": lambda done, seen: seen["least"] < 0,
    "preset": lambda done, seen: seen["least"] < -1,
    "preprocess": lambda done, seen: seen["least"] < 0 and (6, 6) in seen["sizes"],
    "std": lambda done, seen: True,  # with the mean: the next test
}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What conversions do that their result does not show: threads of sessions, budgets, sizes of images."""
    found: dict[str, Any] = {"threads": [], "budgets": [], "sizes": set(), "least": 0.0}
    options, store, run = sessions._options, TensorStore.__init__, sessions.run

    def recorded_options(threads: int, registered: bool) -> Any:
        found["threads"].append(threads)
        return options(threads, registered)

    def recorded_store(self: TensorStore, budget: int) -> None:
        found["budgets"].append(budget)
        store(self, budget)

    def recorded_run(session: Any, inputs: Any, names: Any = None) -> Any:
        if "x" in inputs:
            found["sizes"].add(inputs["x"].shape[2:])
            found["least"] = min(found["least"], float(inputs["x"].min()))
        return run(session, inputs, names)

    monkeypatch.setattr(sessions, "_options", recorded_options)
    monkeypatch.setattr(TensorStore, "__init__", recorded_store)
    for module in ("graphpass.calibration.segments", "graphpass.calibration.ranges", "graphpass.runtime.session"):
        monkeypatch.setattr(f"{module}.run", recorded_run)
    return found


@examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(names={"time_steps"}, data="plan")
@example(names={"levels", "energy", "threads"}, data="arrays")
@example(names={"identity_sites", "exclude", "memory_budget"}, data="arrays")
@example(names={"mean", "image_size", "limit"}, data="images")
@example(names={"target"}, data="plan")
@example(names={"target", "form"}, data="arrays")
@example(names={"target", "coding"}, data="arrays")
@example(names={"preset"}, data="images")
@example(names={"preprocess"}, data="images")
@example(names={"preset", "synthetic"}, data="")
@given(
    names=st.sets(st.sampled_from(OF_PYTHON["convert"]), max_size=5),
    data=st.sampled_from(["arrays", "images", "plan", ""]),
)
@pytest.mark.filterwarnings("ignore:CALIBRATED ON SYNTHETIC")
def test_each_option_of_a_conversion_is_obeyed_or_refused(
    names: set[str], data: str, made: dict[str, Any], seen: dict[str, Any]
) -> None:
    seen.update(threads=[], budgets=[], sizes=set(), least=0.0)
    options = {name: VALUES[name] for name in names}
    options |= {"form": "integer"} if "target" in names and "form" not in names else {}
    sized = {} if "preprocess" in names else {"image_size": 6}
    options |= {"limit": 8} | sized if "synthetic" in names else sized if data == "images" else {}
    given_data = {"plan": made["plan"]} if data == "plan" else {"calibration": made[data]} if data else {}
    try:
        done = api.convert(made["source"], **given_data, **options)
    except (OptionError, FormError):  # a target has no such form, or not so many levels
        return
    assert [name for name in names if not OBEYED[name](done, seen)] == []


@pytest.mark.parametrize("name", OF_PYTHON["convert"])
def test_nothing_that_a_plan_decides_is_given_beside_it(name: str, made: dict[str, Any]) -> None:
    beside = {"form", "precision", "target", "allow_partial", "threads"}
    if name in beside:
        needed = {"form": "integer"} if name == "target" else {}
        assert api.convert(made["source"], plan=made["plan"], **{name: VALUES[name]}, **needed).plan.time_steps == 6
        return
    with pytest.raises(OptionError, match=rf"{name}"):
        api.convert(made["source"], plan=made["plan"], **{name: VALUES[name]})


def test_a_plan_brings_its_own_sites(made: dict[str, Any], tmp_path: Path) -> None:
    """Also identity sites, sites that were left, and what was allowed then."""
    done = api.convert(made["source"], made["arrays"], include="relu1", identity_sites=True, time_steps=2)
    again = api.convert(made["source"], plan=done.plan)
    assert again.proto == done.proto
    assert again.network.coverage.left == done.network.coverage.left
    assert again.network.coverage.spiking_layers == done.network.coverage.spiking_layers
    assert [site.name for site in again.network.coverage.sites] == [site.name for site in done.network.coverage.sites]


@pytest.mark.parametrize("option", ["include", "exclude"])
def test_a_pattern_that_matches_no_site_is_refused(option: str, made: dict[str, Any]) -> None:
    for call in (
        lambda **more: api.convert(made["source"], made["arrays"], **more),
        lambda **more: api.inspect(made["source"], **more),
    ):
        with pytest.raises(OptionError, match=f"--{option} 'conv1' matches no site"):
            call(**{option: ["relu1", "conv1"]})


def test_options_of_images_are_for_images(made: dict[str, Any]) -> None:
    plain = api.convert(made["source"], made["images"], image_size=6)
    other = api.convert(made["source"], made["images"], image_size=6, std=0.5)
    assert plain.plan.data_digest != other.plan.data_digest
    with pytest.raises(OptionError, match="std has no effect"):
        api.convert(made["source"], made["arrays"], std=0.5)
    dataset = api.open_dataset(made["images"], made["source"], image_size=6, std=0.5)
    assert api.convert(made["source"], dataset).plan.data_digest == other.plan.data_digest
    with pytest.raises(OptionError, match="std has no effect"):
        api.convert(made["source"], dataset, std=0.5)


def test_lists_of_a_sweep_and_their_defaults() -> None:
    """One value is a list of one; an empty list is an error."""
    choices = CommandOptions("sweep", {"time_steps": 4, "method": ["max", "da-qcfs"]}, several=SEVERAL)
    assert [choices(name) for name in SEVERAL] == [(4,), OPTIONS["coding"].several, ("max", "da-qcfs")]
    assert CommandOptions("sweep", {"time_steps": 4})("time_steps") == 4  # a single conversion of a sweep
    for name in SEVERAL:
        with pytest.raises(OptionError, match=f"{name} is"):
            CommandOptions("sweep", {name: []}, several=SEVERAL)
