"""The ANN's side of a calibration in parts: wherever the samples are cut, the same plan comes out, bit for bit."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphpass.calibration.calibrate import CalibrationOptions, calibrate, observe_part
from graphpass.calibration.memory import MemoryBudgetWarning
from graphpass.calibration.observation import FEW, FewSamplesWarning
from graphpass.calibration.steps import steps_of
from graphpass.conversion import convert, observe, settings_of
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.functions import open_function
from graphpass.datasets.sources import from_arrays
from graphpass.errors import DataError, OptionError
from graphpass.graph.model import load, save
from graphpass.graph.plan import Plan, save_plan
from graphpass.maths.methods import METHODS
from graphpass.network import prepare
from graphpass.runtime.session import fixed_batch
from graphpass.sites.sites import Selection
from tests.calibration.networks import NETWORKS, CalibrationCase, images, plain, tokens, transformer, weights
from tests.models import build, node, same

BATCH = 5
COUNT = 53  # no multiple of the batch


def many(case: CalibrationCase, count: int = COUNT) -> CalibrationCase:
    """The same network with more samples."""
    case.x = np.concatenate([case.x * (1 + k / 7) for k in range(-(-count // len(case.x)))])[:count].astype(np.float32)
    return case


def dataset(case: CalibrationCase) -> Dataset:
    return from_arrays({case.specs[0].name: case.x}, case.specs)


def in_parts(case: CalibrationCase, folder: Path, cuts: list[int], **options: Any) -> tuple[Plan, list[Path]]:
    """The plan from parts that are cut here, and the parts."""
    settings = CalibrationOptions(**{"time_steps": 4, "threads": 1, "batch": BATCH, **options})
    fixed, graph, coverage = fixed_batch(case.specs), case.graph(), case.coverage()
    paths = []
    for number, (start, stop) in enumerate(pairwise([0, *cuts, len(case.x)])):
        paths.append(folder / f"{number}.npz")
        observe_part(graph, coverage, dataset(case), settings, paths[-1], start, stop, fixed)
    return calibrate(graph, coverage, dataset(case), settings, fixed, observed=paths), paths


@pytest.mark.parametrize("method", ["max", "optimal"])
@pytest.mark.parametrize("name", NETWORKS)
def test_parts_come_to_the_plan_of_the_whole(name: str, method: str, tmp_path: Path) -> None:
    model, data = NETWORKS[name]
    case = many(CalibrationCase(model(), data(), Selection(identity_sites=name == "transformer")))
    plan, _ = in_parts(case, tmp_path, [20, 40], method=method)
    assert same(plan, case.plan(method=method))
    assert plan.samples == COUNT


@pytest.mark.parametrize(
    "options",
    [
        {"coding": "phase", "time_steps": 3, "method": "da-qcfs"},
        {"exact_padding": True, "method": "max"},
        {"limit": 47},
        {"seed": 3, "positions": 70},
        {"levels": {"act1": 3}, "time_steps": 8},
        {"batch": 32, "method": "percentile"},
    ],
    ids=lambda options: ", ".join(options),
)
@pytest.mark.parametrize("cuts", [[1], [8, 33], [21, 22, 23, 50]], ids=str)
def test_whatever_the_options_and_cuts(options: dict[str, Any], cuts: list[int], tmp_path: Path) -> None:
    """Cuts within a batch move to its end: a part may then have no batch."""
    case = many(CalibrationCase(plain(), images()))
    plan, _ = in_parts(case, tmp_path, cuts, **options)
    assert same(plan, case.plan(**options))


@pytest.mark.parametrize("count", [COUNT, 60, 3])
@pytest.mark.parametrize("method", ["max", "optimal"])
def test_a_fixed_batch(count: int, method: str, tmp_path: Path) -> None:
    case = many(CalibrationCase(plain(batch=BATCH), images()), count)
    plan, _ = in_parts(case, tmp_path, [2] if count == 3 else [11, 30], method=method)
    assert same(plan, case.plan(method=method))


def test_the_batch_depends_on_the_memory_in_every_part(tmp_path: Path) -> None:
    """Few bytes: batches of fewer samples than asked for, as many in each part."""
    case = many(CalibrationCase(plain(), images()))
    options = {"batch": 64, "memory": 1 << 20}
    with pytest.warns(MemoryBudgetWarning):
        plan, paths = in_parts(case, tmp_path, [27], **options)
    with pytest.warns(MemoryBudgetWarning):
        whole = case.plan(**options)
    assert same(plan, whole)
    sizes = [dict(np.load(path))["head"][1] for path in paths]
    assert len(set(sizes)) == 1 and 1 <= sizes[0] < COUNT


def test_sites_without_a_channel_axis(tmp_path: Path) -> None:
    model = build(
        [node("MatMul", "left x", "h", "mixing"), node("Relu", "h", "a", "act"),
         node("Conv", "a c", "u", "conv", pads=[1, 1, 1, 1]),
         node("MatMul", "a w", "v", "fc"), node("Add", "u v", "y", "join")],
        {"x": ["N", 3, 6, 6]}, {"y": None}, {"left": weights(6, 6), "c": weights(3, 3, 3, 3), "w": weights(6, 6)},
    )  # fmt: skip
    case = many(CalibrationCase(model, images()))
    for method in METHODS:
        plan, _ = in_parts(case, tmp_path, [17], method=method)
        assert same(plan, case.plan(method=method))


@pytest.mark.parametrize("form", ["folded", "integer"])
def test_the_files_of_a_conversion(form: str, tmp_path: Path) -> None:
    """Model, plan and its arrays: the same bytes."""
    save(plain(), tmp_path / "ann.onnx")
    network = prepare(load(tmp_path / "ann.onnx"))
    x = many(CalibrationCase(plain(), images())).x
    source = from_arrays({"x": x}, CalibrationCase(plain(), x).specs)
    settings = settings_of(network, 4, "rate", "optimal", form, CalibrationOptions(threads=1))
    paths = [tmp_path / "0.npz", tmp_path / "1.npz"]
    found = [
        observe(network, source, settings, path, *span) for path, span in zip(paths, [(0, 30), (30, 53)], strict=True)
    ]
    assert found == [32, 21]
    made = []
    for observed in ((), paths):
        done = convert(
            network, source, time_steps=4, form=form, options=CalibrationOptions(threads=1), observed=observed
        )
        (folder := tmp_path / f"{len(observed)}").mkdir()
        done.save(folder / "snn.onnx")
        save_plan(done.plan, folder / "plan.json")
        made.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert made[0] == made[1] and len(made[0]) == 3
    with pytest.raises(OptionError, match="without its data"):
        convert(network, observed=paths)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[CalibrationCase, list[Path]]:
    """A case and the three parts of its calibration."""
    case = many(CalibrationCase(plain(), images()))
    _, paths = in_parts(case, tmp_path_factory.mktemp("parts"), [20, 40])
    return case, paths


def join(case: CalibrationCase, paths: list[Path], **options: Any) -> Plan:
    settings = CalibrationOptions(**{"time_steps": 4, "threads": 1, "batch": BATCH, **options})
    return calibrate(case.graph(), case.coverage(), dataset(case), settings, observed=paths)


@pytest.mark.parametrize("order", [[0, 1], [1, 2], [0, 2], [0, 1, 1, 2], [0, 2, 1], [2]])
def test_parts_that_are_missing_twice_or_out_of_order(
    parts: tuple[CalibrationCase, list[Path]], order: list[int]
) -> None:
    case, paths = parts
    with pytest.raises(DataError, match=r"samples \d+ and later of a calibration are missing, or appear twice"):
        join(case, [paths[number] for number in order])


def test_a_part_without_batches_may_be_left_out(tmp_path: Path) -> None:
    """Its samples are in the part before."""
    case = many(CalibrationCase(transformer(), tokens()))
    _, paths = in_parts(case, tmp_path, [33, 44], batch=32)
    whole = join(case, paths, batch=32)
    assert whole.ranges
    assert len(dict(np.load(paths[1]))["sizes"]) == 0
    assert same(join(case, [paths[0], paths[2]], batch=32), whole)


@pytest.mark.parametrize("options", [{"seed": 1}, {"method": "max"}, {"limit": 50}, {"batch": 6}, {"memory": 1 << 21}])
def test_parts_of_another_calibration(parts: tuple[CalibrationCase, list[Path]], options: dict[str, Any]) -> None:
    case, paths = parts
    assert same(join(case, paths, coding="phase", time_steps=2), case.plan(coding="phase", time_steps=2))
    with pytest.raises(DataError, match="not a part of this calibration"):
        join(case, paths, **options)


def test_parts_of_other_data(parts: tuple[CalibrationCase, list[Path]]) -> None:
    _, paths = parts
    with pytest.raises(DataError, match="not the data that was observed"):
        join(many(CalibrationCase(plain(), images()), COUNT + 1), paths)


def changed(path: Path, target: Path, name: str, values: Any) -> Path:
    """A part with one array replaced; None: without it."""
    arrays = {each: array for each, array in dict(np.load(path)).items() if each != name or values is not None}
    np.savez(target, **arrays | ({} if values is None else {name: values}))
    return target


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("key", None), ("key", np.zeros(32, np.uint8)), ("head", np.array([53, 0, 0])), ("head", np.array([53, 5])),
        ("head", np.array([-1, 5, 0])), ("sizes", np.array([5, 5, 5, 4])), ("sizes", np.array([[5, 5, 5, 5]])),
        ("sizes", np.array([5.0, 5, 5, 5])), ("low", np.zeros(9)), ("0/shapes", np.zeros((4, 0), np.int64)),
        ("0/shapes", np.full((4, 4), 3)), ("0/shapes", np.zeros((3, 4), np.int64)), ("0/span", np.zeros(3)),
        ("0/x", np.zeros((7, 6), np.float32)), ("0/x", np.zeros((720, 6))), ("0/x", None), ("1/top", None),
        ("0/x", np.array([["a"]])), ("0/bottom", np.array([None, "b"])),
    ],
)  # fmt: skip
def test_nonsense_in_a_part(parts: tuple[CalibrationCase, list[Path]], name: str, values: Any, tmp_path: Path) -> None:
    case, paths = parts
    broken = changed(paths[0], tmp_path / "broken.npz", name, values)
    with pytest.raises(DataError, match=r"broken\.npz: "):
        join(case, [broken, *paths[1:]])


def test_activations_are_kept_where_they_do_not_follow_from_x(tmp_path: Path) -> None:
    case = many(CalibrationCase(transformer(), tokens()))
    _, paths = in_parts(case, tmp_path, [33], batch=32)
    kept = {name.partition("/")[0] for name in np.load(paths[0]) if name.endswith("/a")}
    steps = steps_of(case.graph(), case.coverage().sites, correct=True)
    kinds = {str(number): step.site and step.site.kind for number, step in enumerate(steps)}
    assert kept == {number for number, kind in kinds.items() if kind not in (None, "identity", "relu", "clip")} != set()
    for number in kept:
        for values in (None, np.array([["a"]])):
            broken = changed(paths[0], tmp_path / "broken.npz", f"{number}/a", values)
            with pytest.raises(DataError, match=r"broken\.npz: "):
                join(case, [broken, *paths[1:]], batch=32)


def test_files_that_are_no_parts(parts: tuple[CalibrationCase, list[Path]], tmp_path: Path) -> None:
    case, paths = parts
    whole = paths[0].read_bytes()
    damaged = bytearray(whole)
    damaged[whole.index(dict(np.load(paths[0]))["0/x"].tobytes()) + 5] ^= 255
    for content in (b"", b"PK\x03\x04", whole[: len(whole) // 2], bytes(damaged)):
        (path := tmp_path / "no.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"no\.npz: "):
            join(case, [path, *paths[1:]])


def test_a_function_does_not_tell_its_length(tmp_path: Path) -> None:
    case = CalibrationCase(plain(), images())
    (tmp_path / "made.py").write_text(
        "import numpy as np\ndef samples():\n    yield {'x': np.ones((12, 3, 6, 6), np.float32)}\n"
    )
    source = open_function(tmp_path / "made.py", "samples", case.specs, allow_code=True)
    assert source.samples is None
    with pytest.raises(DataError, match="does not say how many samples"):
        observe_part(case.graph(), case.coverage(), source, CalibrationOptions(threads=1), tmp_path / "0.npz", 0, 5)


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("count", range(1, FEW + 1))
def test_few_samples_are_warned_of(count: int) -> None:
    case = many(CalibrationCase(plain(), images()), count)
    if count == FEW:
        case.plan()
        return
    with pytest.warns(FewSamplesWarning, match=f"on {count} of the at least 4 samples"):
        case.plan()
