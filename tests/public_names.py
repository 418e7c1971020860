"""Every public name of graphpass, used twice; `python public_names.py FOLDER [NAME …]` uses those named.

It stands alone, so that it runs beside an installed wheel.
"""

import sys
import warnings
from collections.abc import Callable
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import graphpass

SAMPLES = 24


def network() -> onnx.ModelProto:
    """x [N, 8] → Gemm → Relu → Gemm → scores [N, 12]."""
    random = np.random.default_rng(0)
    weights = {"a": random.standard_normal((8, 16)), "b": random.standard_normal((16, 12))}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "a"], ["h"], name="first"),
            helper.make_node("Relu", ["h"], ["r"], name="relu"),
            helper.make_node("Gemm", ["r", "b"], ["scores"], name="second"),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 12])],
        [numpy_helper.from_array(np.float32(values), name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def images() -> dict[str, np.ndarray]:
    """Inputs of the network, and labels."""
    random = np.random.default_rng(1)
    return {"x": random.standard_normal((SAMPLES, 8)).astype(np.float32), "labels": random.integers(0, 12, SAMPLES)}


def lay_out(folder: Path) -> None:
    """ann.onnx, images.npz, labelled.npz, and snn.onnx as `convert` makes it."""
    onnx.save(network(), folder / "ann.onnx")
    np.savez(folder / "images.npz", x=images()["x"])
    np.savez(folder / "labelled.npz", **images())
    graphpass.convert(folder / "ann.onnx", folder / "images.npz", folder / "snn.onnx", time_steps=4)


class Uses:
    """One method a public name; each asserts that the name does what it says."""

    def __init__(self, folder: Path):
        self._ann, self._snn = folder / "ann.onnx", folder / "snn.onnx"
        self._data, self._labelled, self._folder = folder / "images.npz", folder / "labelled.npz", folder

    def convert(self) -> None:
        by_path = graphpass.convert(self._ann, calibration=self._data, output=self._folder / "again.onnx", time_steps=4)
        by_array = graphpass.convert(graphpass.load(str(self._ann)), images()["x"], time_steps=4)
        assert by_path.proto == by_array.proto and (self._folder / "again.onnx").read_bytes() == self._snn.read_bytes()
        assert graphpass.convert(network(), {"x": images()["x"]}, time_steps=np.int64(3)).plan.time_steps == 3

    def from_torch(self) -> None:
        if find_spec("torch") is None:
            message = ""
            try:
                graphpass.from_torch(None, None)
            except graphpass.GraphpassError as error:
                message = str(error)
            assert "pip install 'graphpass[torch]'" in message
            return
        import torch

        layers = torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 12)
        made = graphpass.from_torch(torch.nn.Sequential(*layers), torch.zeros(2, 8), torch.from_numpy(images()["x"]))
        assert made.to_torch(threads=1)(torch.zeros(3, 8)).shape == (3, 12)

    def evaluate(self) -> None:
        found = graphpass.evaluate(self._ann, self._snn, self._labelled, metric=["classes", "embedding"], threads=1)
        assert found.samples == SAMPLES and found.agreement is not None and found.provenance.snn_sha256
        made = graphpass.convert(self._ann, self._data)
        assert graphpass.evaluate(network(), made, images(), limit=4).samples == 4

    def sweep(self) -> None:
        rows = graphpass.sweep(self._ann, self._data, images(), time_steps=[1, 4], coding=["rate", "phase"], limit=8)
        assert [(row.time_steps, row.coding) for row in rows] == [(1, "rate"), (4, "rate"), (1, "phase"), (4, "phase")]
        assert len(graphpass.sweep(network(), images(), self._labelled, time_steps=2, method="max")) == 1

    def search(self) -> None:
        """The chosen network is written, unless none is good enough."""
        target = self._folder / "found.onnx"
        found = graphpass.search(self._ann, self._data, self._labelled, target, max_drop=50, coding="phase")
        assert found.conversion and onnx.load(target) == found.conversion.proto

    def verify(self) -> None:
        assert graphpass.verify(self._snn, self._data, limit=4).agrees
        plan = graphpass.convert(self._ann, self._data).plan
        forms = [graphpass.convert(self._ann, plan=plan, form=form) for form in ("integer", "folded")]
        assert graphpass.verify(forms[0], images(), reference=forms[1]).samples == SAMPLES

    def inspect(self) -> None:
        assert [site.name for site in graphpass.inspect(self._ann).sites] == ["relu"]
        assert not graphpass.inspect(network(), exclude="relu").sites

    def inline(self) -> None:
        target = self._folder / "plain.onnx"
        assert not graphpass.inline(self._snn, target).functions and not onnx.load(target).functions

    def card(self) -> None:
        found = graphpass.evaluate(self._ann, self._snn, self._labelled)
        assert f"| top-1 accuracy | {100 * (found.ann.top1 or 0):.2f} % |" in graphpass.card(self._snn, found)

    def open_session(self) -> None:
        made = graphpass.convert(self._ann, self._data)
        for model in (self._snn, made, made.proto, graphpass.load(self._ann)):
            (scores,) = graphpass.open_session(model, threads=1).run(None, {"x": images()["x"]})
            assert scores.shape == (SAMPLES, 12)

    def load(self) -> None:
        assert graphpass.load(self._ann).digest == graphpass.load(onnx.load(self._ann)).digest

    def open_dataset(self) -> None:
        dataset = graphpass.open_dataset(self._labelled, self._ann)
        assert dataset.samples == SAMPLES and dataset.labelled
        assert graphpass.convert(self._ann, dataset).plan.samples == SAMPLES

    def save_plan(self) -> None:
        made = graphpass.convert(self._ann, self._data)
        graphpass.save_plan(made.plan, self._folder / "plan.json")
        assert graphpass.convert(self._ann, plan=self._folder / "plan.json").proto == made.proto

    def load_plan(self) -> None:
        self.save_plan()
        assert graphpass.load_plan(self._folder / "plan.json").samples == SAMPLES

    def save_report(self) -> None:
        graphpass.save_report(graphpass.evaluate(self._ann, self._snn, self._labelled), self._folder / "r.html")
        rows = graphpass.sweep(self._ann, self._data, self._labelled, time_steps=[1, 2])
        graphpass.save_report(rows, self._folder / "s.html")
        assert all((self._folder / name).stat().st_size > 1_000_000 for name in ("r.html", "s.html"))

    def save_json(self) -> None:
        graphpass.save_json(graphpass.evaluate(self._ann, self._snn, self._labelled), self._folder / "e.json")
        assert '"graphpass-evaluation"' in (self._folder / "e.json").read_text()

    def plot_raster(self) -> None:
        assert len(graphpass.plot_raster(self._snn, self._data, sample=3, neurons=5).data[0]["z"]) == 5

    def plot_thresholds(self) -> None:
        assert "relu" in graphpass.plot_thresholds(self._snn, images(), site="relu", limit=4).title

    def plot_pareto(self) -> None:
        self.save_json()
        assert graphpass.plot_pareto(self._folder / "e.json").data

    def plot_graph(self) -> None:
        found = graphpass.evaluate(self._ann, self._snn, self._labelled, limit=4)
        assert len(graphpass.plot_graph(self._snn, found).data) > len(graphpass.plot_graph(self._snn).data)

    def save_picture(self) -> None:
        graphpass.save_picture(graphpass.plot_graph(self._snn), self._folder / "g.html")
        assert (self._folder / "g.html").stat().st_size > 1_000_000

    def save_node_data(self) -> None:
        self.save_json()
        files = graphpass.save_node_data(self._snn, self._folder / "e.json", self._folder / "n.json")
        assert [file.name for file in files] == ["n.error.json", "n.firing_rate.json"] and files[0].is_file()

    def doctor(self) -> None:
        assert {finding.what for finding in graphpass.doctor()} >= {"graphpass", "numpy"}

    def GraphpassError(self) -> None:  # noqa: N802
        message = ""
        try:
            graphpass.convert(self._folder / "none.onnx")
        except graphpass.GraphpassError as error:
            message = str(error)
        assert "none.onnx: no such file" in message

    def ConversionWarning(self) -> None:  # noqa: N802
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            graphpass.convert(self._ann, synthetic=True, limit=8)
        assert any(issubclass(each.category, graphpass.ConversionWarning) for each in caught)

    @cached_property
    def _results(self) -> dict[str, Any]:
        made = graphpass.convert(self._ann, self._data)
        integer = graphpass.convert(self._ann, plan=made.plan, form="integer")
        return {
            "Conversion": made,
            "Plan": made.plan,
            "Source": graphpass.load(self._ann),
            "Dataset": graphpass.open_dataset(self._data, self._ann),
            "Evaluation": graphpass.evaluate(self._ann, made, self._labelled, limit=2),
            "Row": graphpass.sweep(self._ann, self._data, self._labelled, time_steps=1, limit=2)[0],
            "Found": graphpass.search(self._ann, self._data, self._labelled, max_drop=100, coding="rate", time_steps=1),
            "Inspection": graphpass.inspect(self._ann),
            "Picture": graphpass.plot_raster(made, self._data),
            "Verification": graphpass.verify(made, self._data, limit=2),
            "Flips": graphpass.verify(integer, self._data, reference=made, limit=2),
        }

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Of a class: it is what a function returns."""

        def check() -> None:
            assert isinstance(self._results[name], getattr(graphpass, name))

        return check


def main(folder: Path, names: list[str]) -> None:
    """Use the names twice; all public names stay what they are."""
    lay_out(folder)
    uses, before = Uses(folder), {name: getattr(graphpass, name) for name in graphpass.__all__}
    for name in (*names, *names):
        getattr(uses, name)()
    assert {name: getattr(graphpass, name) for name in graphpass.__all__} == before
    assert all(map(callable, before.values()))


if __name__ == "__main__":
    wanted = sys.argv[2:] or graphpass.__all__
    main(Path(sys.argv[1]), list(wanted))
    print("used", len(wanted), "names twice")
