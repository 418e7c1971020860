"""Any command line succeeds or prints one line that says why not, without another exception, and loses no file."""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from graphpass import api
from graphpass.cli.app import main
from graphpass.evaluation import evaluate as evaluation
from graphpass.options.rules import dashed
from tests.properties import examples
from tests.public_names import images, network

# what may be given, sensible and not; flags take none
VALUES: dict[str, Sequence[str]] = {
    "calibration": "images.npz labelled.npz ann.onnx folder none.npz feed.py:batches feed.py:wrong .".split(),
    "evaluation": ["labelled.npz", "images.npz", "none.npz", "plan.json", ""],
    "data": ["labelled.npz", "images.npz", "feed.py:batches", "empty.npz"],
    "plan": ["plan.json", "plan.npz", "ann.onnx", "broken.json", "none.json", "folder", ""],
    "plan-out": ["p.json", "p.npz", "images.npz", "ann.onnx", "no/p.json", "/", "", "p", "folder", "a\\b"],
    "json": ["e.json", "ann.onnx", "snn.onnx", "no/e.json", "/dev/null", "folder"],
    "report": ["r.html", "e.json", "labelled.npz", "x" * 300],
    "reference": ["snn.onnx", "ann.onnx", "integer.onnx"],
    "time-steps": [*"1 4 0 -1 255 256 99999999999999999999 4.5 four 1,2 1,,2 ٤ 4,4".split(), ""],
    "coding": ["rate", "phase", "morse", "", "rate,phase", "rate,", "\n"],
    "method": ["max", "optimal", "da-qcfs", "percentile", "best", "max,max"],
    "form": ["folded", "unrolled", "integer", "round", ""],
    "precision": ["source", "float16", "float8"],
    "target": ["onnxruntime", "tensorrt", "openvino"],
    "levels": ["auto", "9", "", "none"],
    "energy": ["0.5", "1", "0", "-1", "nan", "inf", "1e-300", "half"],
    "mean-levels": ["2", "4.5", "1", "1e300", "nan", "inf"],
    "include": ["relu", ".", "(", "", "conv", "(?i)RELU", "(" * 500, "[", "a{99999999999}"],
    "exclude": ["relu", "x", "*", "\\", "first"],
    "limit": ["1", "8", "0", "100000", "9" * 30, "x"],
    "calibration-limit": ["1", "9" * 18],
    "seed": ["0", "3", "-1", "9223372036854775807", "9223372036854775808", "x"],
    "memory-budget": ["64MiB", "1", "inf", "nan", "-1", "1e9", "", "9" * 30, "0.001KiB", "2 GiB"],
    "threads": ["1", "2", "0", "-1", "1025", "many"],
    "provider": ["cpu", "cuda", "cuda:use_tf32=1,device_id=9", "cuda:", "cpu:device_id=1", "cuda:device_id=x", "tpu"],
    "image-size": ["8", "0", "5000", "x"],
    "mean": ["0.5", "0.1,0.2,0.3", "nan", "", ",", "a,b"],
    "std": ["1", "0", "-1", "inf"],
    "metric": [
        *("classes embedding ctc:blank=0 ctc:blank=x psnr bleu mine.py:top none.py:top regression:output=no").split(),
        "",
    ],
    "energy-model": ["lemaire22", "horowitz45", "free", ""],
    "synthetic": [],
    "identity-sites": [],
    "allow-partial": [],
}
COMMANDS: dict[str, tuple[list[str], list[str]]] = {  # what is always there, and the options
    "convert": (
        ["convert", "ann.onnx", "snn2.onnx"],
        [
            *(
                "calibration evaluation plan plan-out json report time-steps coding method form precision target levels"
            ).split(),
            *("energy mean-levels include exclude limit seed memory-budget threads image-size mean std metric").split(),
            *("energy-model synthetic identity-sites allow-partial").split(),
        ],
    ),
    "evaluate": (
        ["evaluate", "ann.onnx", "snn.onnx", "--data", "labelled.npz"],
        "json report limit threads provider image-size mean std metric energy-model".split(),
    ),
    "sweep": (
        ["sweep", "ann.onnx", "--calibration", "images.npz", "--data", "labelled.npz", "--time-steps", "2"],
        [
            *"json report coding method include exclude calibration-limit limit seed memory-budget threads".split(),
            *"metric energy-model".split(),
        ],
    ),
    "verify": (
        ["verify", "snn.onnx", "--data", "images.npz"],
        "limit reference threads image-size mean std data".split(),
    ),
    "inspect": (["inspect", "ann.onnx"], "include exclude identity-sites".split()),
    "inline": (["inline", "snn.onnx"], []),
}
WRITTEN = ("--json", "--report", "--plan-out")
LATER = {"snn2.onnx", "p.json", "p.npz", "p", "e.json", "r.html", "plain.onnx", "a\\b"}  # what may be written


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lines")
    onnx.save(network(), folder / "ann.onnx")
    np.savez(folder / "images.npz", x=images()["x"])
    np.savez(folder / "labelled.npz", **images())
    np.savez(folder / "empty.npz")
    done = api.convert(network(), images(), folder / "snn.onnx", time_steps=4)
    api.convert(network(), output=folder / "integer.onnx", plan=done.plan, form="integer")
    api.save_plan(done.plan, folder / "plan.json")
    (folder / "broken.json").write_text("{")
    (folder / "folder").mkdir()
    (folder / "feed.py").write_text(
        "import numpy as np\n"
        "def batches():\n    yield {'x': np.ones((8, 8), 'float32') * np.arange(8, dtype='float32')}\n"
        "def wrong():\n    yield 1 / 0\n"
    )
    (folder / "mine.py").write_text(
        "def top(outputs, labels, reference):\n    return {'top': outputs['scores'].max(1)}\n"
    )
    return folder


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    command = draw(st.sampled_from(["convert", "convert", *COMMANDS]))
    always, names = COMMANDS[command]
    line = list(always)
    if command == "inline":
        line.append(draw(st.sampled_from(["plain.onnx", "snn.onnx", "no/plain.onnx", "folder", "", "/dev/null"])))
    if command == "convert" and draw(st.booleans()):
        line += ["--calibration", "images.npz"]
    if command == "convert" and draw(st.integers(0, 9)) == 0:
        line[1:3] = draw(
            st.sampled_from([["ann.onnx", "ann.onnx"], ["images.npz", "s.onnx"], ["none", "s"], ["ann.onnx", ""]])
        )
    for name in draw(st.lists(st.sampled_from(names), max_size=4, unique=True)) if names else ():
        line += [dashed(name), *([draw(st.sampled_from(VALUES[name]))] if VALUES[name] else [])]
    return line


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name not in LATER}


CONVERT = ["convert", "ann.onnx", "snn2.onnx", "--calibration", "images.npz"]


@examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@example(line=[*CONVERT, "--memory-budget", "inf"])
@example(line=[*CONVERT, "--plan-out", "/"])
@example(line=[*CONVERT, "--include", "(" * 500])
@example(line=["sweep", "ann.onnx", "--calibration", "images.npz", "--data", "labelled.npz", "--coding", ""])
@example(line=[*CONVERT, "--json", "e.json"])
@example(line=[*CONVERT, "--json", "snn.onnx"])
@given(line=lines())
def test_a_command_line_is_done_or_says_why_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: list[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(evaluation, "SHORTEST_TIMING", 0)
    before = state(folder)
    capsys.readouterr()
    ended: Any = None
    try:
        main(line)
    except SystemExit as exit:
        ended = exit.code
    printed = capsys.readouterr().err.splitlines()
    errors = [text for text in printed if not text.startswith("graphpass: warning: ")]
    if ended in (0, None):
        assert errors == []
    else:
        assert ended in (2, 3) and len(errors) == 1 and errors[0].startswith("graphpass: error: ")
    after = state(folder)
    if ended != 2:  # what was asked to be written may replace a file that is not read
        named = {target for option, target in pairwise(line) if option in WRITTEN} & before.keys()
        after |= {name: before[name] for name in named}
        for name in named:
            (folder / name).write_bytes(before[name])
    assert after == before
    assert not [name for name in os.listdir(folder) if name.startswith(".")]
