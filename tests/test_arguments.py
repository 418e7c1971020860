"""Arguments of the public functions that are none: typed errors, whatever the argument. Results are values, as Python's
own are: they can be compared, kept in sets, copied and pickled."""

import copy
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import graphpass
from tests.public_names import images, network

STRANGE: dict[str, Callable[[], Any]] = {  # of these, no public function takes any for any of its arguments
    "an object": object,
    "bytes": lambda: b"ann.onnx",
    "a complex number": lambda: 1j,
    "an empty text": str,
}
TAKES = {  # but these: an empty text is a pattern that matches all
    ("include", "an empty text"), ("exclude", "an empty text"),
}  # fmt: skip
SLOW = {"from_torch", "doctor"}  # which load PyTorch, and which takes nothing
SWITCHES = {"use_native", "use_blocked"}  # of a session, for which all that is true is true


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Arguments that make sense, by name: of all functions that need them."""
    folder = tmp_path_factory.mktemp("usual")
    onnx.save(network(), folder / "ann.onnx")
    data = {"x": images()["x"]}
    conversion = graphpass.convert(folder / "ann.onnx", data, method="max", time_steps=2, threads=1)
    found = graphpass.evaluate(folder / "ann.onnx", conversion, images(), threads=1)
    return {
        "ann": folder / "ann.onnx", "model": folder / "ann.onnx", "snn": conversion, "data": images(),
        "calibration": data, "evaluation": images(), "found": found, "plan": conversion.plan,
        "source": images(), "max_drop": 1.0, "path": folder / "out.json", "folder": folder,
        "picture": graphpass.plot_thresholds(conversion, data, threads=1), "result": found, "results": found,
    }  # fmt: skip


def arguments() -> list[tuple[str, str, str]]:
    return [
        (function, name, kind)
        for function in graphpass.__all__
        if inspect.isfunction(getattr(graphpass, function)) and function not in SLOW
        for name in inspect.signature(getattr(graphpass, function)).parameters
        if name not in SWITCHES
        for kind in STRANGE
        if (name, kind) not in TAKES
    ]


@pytest.mark.parametrize(("function", "name", "kind"), arguments())
def test_a_strange_argument_is_a_typed_error(
    function: str, name: str, kind: str, usual: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    called = getattr(graphpass, function)
    needed = [
        each.name for each in inspect.signature(called).parameters.values() if each.default is inspect.Parameter.empty
    ]
    given = {each: usual[each] for each in needed} | {name: STRANGE[kind]()}
    if function in ("convert", "inspect") and name not in ("calibration", "plan", "synthetic"):
        given.setdefault("calibration", usual["calibration"])
    if function == "search":
        given.setdefault("max_drop", 1.0)
    with pytest.raises(graphpass.GraphpassError) as caught:
        called(**given)
    assert caught.value.remedy and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["snn", "plan", "found"])
def test_results_are_values(name: str, usual: dict[str, Any]) -> None:
    result = usual[name]
    other = pickle.loads(pickle.dumps(result))
    assert type(other) is type(result) and type(copy.deepcopy(result)) is type(result)
    assert result == result and (result == other) in (True, False)
    if name != "found":
        assert len({result, other}) == 2
    if name == "snn":
        assert other.proto == result.proto and other.network.coverage.left == result.network.coverage.left
        again = graphpass.convert(other.network, plan=other.plan)
        assert again.proto.SerializeToString() == result.proto.SerializeToString()


def test_masked_values_are_not_taken_for_values(usual: dict[str, Any]) -> None:
    masked = np.ma.masked_array(images()["x"], images()["x"] > 1)
    for data in ({"x": masked}, [masked], [{"x": masked}], iter([masked])):
        with pytest.raises(graphpass.GraphpassError, match="'x' has values that are masked"):
            graphpass.convert(usual["model"], data, threads=1)
