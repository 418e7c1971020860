"""`python additions.py defaults|kinds FOLDER`: changes a table from outside, and checks that it shows everywhere.

Run in a process of its own, before anything else of graphpass is imported: as if the line stood in the table.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner


def network(folder: Path, activation: str) -> Path:
    """x [N, 8] → Gemm → activation → Neg → Neg → Gemm → y."""
    random = np.random.default_rng(0)
    weights = {"a": random.standard_normal((8, 16)), "b": random.standard_normal((16, 4))}
    nodes = ["Gemm x,a h first", f"{activation} h r curve", "Neg r n minus", "Neg n p plus", "Gemm p,b y last"]
    parts = [each.split() for each in nodes]
    graph = helper.make_graph(
        [helper.make_node(op, inputs.split(","), [output], name=name) for op, inputs, output, name in parts],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.float32(values), name) for name, values in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "ann.onnx")
    x = random.standard_normal((64, 8)).astype(np.float32)
    np.savez(folder / "data.npz", x=x, labels=np.arange(64) % 4)
    return folder / "ann.onnx"


def command_line(*words: str) -> str:
    """The output of a graphpass command, which must succeed."""
    from graphpass.cli.app import app

    done = CliRunner().invoke(app, list(words), env={"COLUMNS": "200", "TERM": "dumb"}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def served() -> Mapping[str, Any]:
    """What /v1/options answers: the page shows that."""
    from service.api.operations import options

    return {name: answer.model_dump() for name, answer in asyncio.run(options()).items()}


def change_defaults(folder: Path) -> None:
    """Changed defaults in OPTIONS show on the command line, in Python, requests, the sandbox and the page."""
    from graphpass.options.table import OPTIONS

    changed = {"seed": 7, "coding": "phase", "method": "max", "image_size": 96, "threads": 1, "mean": 0.25}
    table: Any = OPTIONS
    for name, value in changed.items():
        table[name] = replace(table[name], default=value, several=(value,) if table[name].several else ())

    model = network(folder, "Relu")
    assert "Default 7." in (text := command_line("convert", "--help")) and "phase. Default phase." in text
    assert "Comma-separated. Default max." in command_line("sweep", "--help")
    command_line("convert", str(model), str(folder / "by_command.onnx"), "--calibration", str(folder / "data.npz"))

    import graphpass

    done = graphpass.convert(model, folder / "data.npz")
    facts = (done.plan.coding, done.plan.method, done.plan.seed)
    assert facts == ("phase", "max", 7)
    stored = {entry.key: entry.value for entry in onnx.load(folder / "by_command.onnx").metadata_props}
    assert (stored["graphpass.coding"], stored["graphpass.method"]) == facts[:2]
    (row,) = graphpass.sweep(model, folder / "data.npz", folder / "data.npz", time_steps=2)
    assert (row.coding, row.method) == facts[:2]

    from graphpass.calibration.calibrate import CalibrationOptions
    from graphpass.datasets.images import ImageOptions
    from graphpass.evaluation.evaluate import EvaluationSettings

    plain = CalibrationOptions()
    assert (plain.coding, plain.method, plain.seed, plain.threads) == ("phase", "max", 7, 1)
    assert ImageOptions().mean == (0.25,) and EvaluationSettings().threads == 1

    from service.api.requests import ConversionOptions, SweepOptions
    from service.sandbox.options import task_options

    asked = ConversionOptions().model_dump()
    assert {name: asked[name] for name in asked.keys() & changed} == {
        **{name: changed[name] for name in ("seed", "coding", "method", "image_size")},
        "mean": [0.25],
    }
    assert (SweepOptions().coding, SweepOptions().method) == (["phase"], ["max"])
    assert [task_options({}, "convert")(name) for name in ("seed", "coding", "method")] == [7, "phase", "max"]
    found = served()
    assert {name: found[name]["default"] for name in changed} == changed


def add_kinds(folder: Path) -> None:
    """One more pass, activation, method, form and metric, each as CONTRIBUTING.md says, shows everywhere."""
    from graphpass.evaluation.metrics import registry as metrics
    from graphpass.evaluation.metrics.score import Untrained, plain, scored
    from graphpass.forms import registry as forms
    from graphpass.maths import methods
    from graphpass.options.table import OPTIONS
    from graphpass.passes import normalise
    from graphpass.passes.base import Rewriting
    from graphpass.sites import activations

    def eliminate_double_negations(work: Rewriting) -> None:
        """−(−x) → x."""
        for node in work.nodes("Neg"):
            inner = node.inputs[0].inputs[0] if node.inputs and node.inputs[0].inputs else None
            if inner is not None and inner.op == "Neg":
                for reader in list(node.outputs[0].outputs):
                    reader.inputs = [inner.inputs[0] if each is node.outputs[0] else each for each in reader.inputs]
                work.done()

    @dataclass(frozen=True)
    class Largest(Untrained):
        """largest: mean of the largest output."""

        def score(self, outputs: Any, batch: Any, reference: Any) -> Any:
            return scored({"largest": plain(next(iter(outputs.values())).max(-1))})

    tables: Any = (activations, normalise, methods.METHODS, forms.FORMS, metrics.METRICS, OPTIONS)
    tables[1].RULES = (*normalise.RULES, eliminate_double_negations)
    tables[0].ACTIVATIONS = (
        *activations.ACTIVATIONS,
        activations.Spelling("atan", ("Atan", "x"), lambda binding: {}),
    )
    tables[2]["median"] = methods.METHODS["max"]
    tables[3]["again"] = forms.FORMS["folded"]
    tables[4]["largest"] = Largest
    for option, name in (("method", "median"), ("form", "again"), ("metric", "largest")):
        known = OPTIONS[option]
        tables[5][option] = replace(known, names={**known.names, name: (name.title(), "What was added.")})

    model, data = network(folder, "Atan"), str(folder / "data.npz")
    seen = command_line("inspect", str(model))
    assert "atan" in seen and "eliminate_double_negations" in json.dumps(_inspected(model))
    text = command_line("convert", "--help")
    assert all(name in text for name in ("median", "again", "largest"))
    target = str(folder / "snn.onnx")
    command_line("convert", str(model), target, "--calibration", data, "--method", "median", "--form", "again")
    made = onnx.load(target)
    assert {node.op_type for node in made.graph.node}.isdisjoint({"Neg", "Atan"})
    assert {entry.key: entry.value for entry in made.metadata_props}["graphpass.method"] == "median"
    command_line("convert", str(model), target, "--calibration", data, "--method", "median")
    assert "largest" in command_line("evaluate", str(model), target, "--data", data, "--metric", "largest")

    from service.api.requests import ConversionOptions

    schema = json.dumps(ConversionOptions.model_json_schema())
    assert all(name in schema for name in ('"median"', '"again"', "|largest)"))
    asked = ConversionOptions(method="median", form="again", metric=["largest"])
    assert asked.model_dump()["method"] == "median"
    found = served()
    for option, name in (("method", "median"), ("form", "again"), ("metric", "largest")):
        assert {"name": name, "title": name.title(), "meaning": "What was added."} in found[option]["names"]


def _inspected(model: Path) -> Any:
    from graphpass.graph.model import load
    from graphpass.network import prepare

    return [report.rule for report in prepare(load(model)).rules if report.rewrites]


def run(what: str, folder: Path) -> None:
    """In a separate process."""
    subprocess.run([sys.executable, __file__, what, str(folder)], check=True)


if __name__ == "__main__":
    {"defaults": change_defaults, "kinds": add_kinds}[sys.argv[1]](Path(sys.argv[2]))
