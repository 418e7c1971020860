"""What a terminal is sent: names as they are, without what it would obey."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphpass.cli import app, terminal
from graphpass.cli.terminal import Terminal, progress_bars, visible
from tests.cli.test_cli import status
from tests.models import build, node
from tests.test_conversion import data, network

NAMES = {  # of a node, and how they are printed
    r"a\[/b]": r"a\[/b]",  # which Rich took for the end of a markup that never began
    r"a\[red]b": r"a\[red]b",
    "end\\": "end\\",
    "[link=file:///etc]x": "[link=file:///etc]x",
    "a:smile:b": "a:smile:b",
    "\x1b[31mred\x1b]0;title\x07": r"\x1b[31mred\x1b]0;title\x07",
    "left\u202eright": r"left\u202eright",
    "Läyer 1/🙂": "Läyer 1/🙂",
    "one\ntwo\r\x85\u2028three": r"one\ntwo\r\x85\u2028three",
}

DRAWS = r"\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A|[\r\n]"  # what a bar of Rich sends: cursor, lines


@pytest.mark.parametrize("name", NAMES)
def test_names_are_printed_as_they_are(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    proto = network()
    for number, each in enumerate(proto.graph.node):
        each.name = f"{name}{number}"
    onnx.save(proto, "ann.onnx")
    assert status("inspect", "ann.onnx") == 0
    assert f"{NAMES[name]}0" in capsys.readouterr().out
    assert status("inspect", f"{name.replace('/', '')}.onnx") == 2
    assert capsys.readouterr().err.startswith(f"graphpass: error: {NAMES[name].replace('/', '')}.onnx: no such file")


def test_lines_and_names_of_files_that_are_no_text() -> None:
    assert visible("a\nb\tc\udcff") == r"a\nb\tc\udcff"
    with (console := Terminal()).capture() as caught:
        console.print("[b]\x1b[0m")
    assert caught.get() == "[b]\\x1b[0m\n"


def test_no_name_passes_for_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    forged = "a\ngraphpass: error: forged"
    terminal.out.print(f"input {forged}: float32 [1]")
    terminal.print_verdict("spikes pay", [forged])
    app._warn(forged)
    with pytest.raises(SystemExit):
        app._fail(forged, 2)
    printed = "".join(capsys.readouterr())
    assert printed.count(r"a\ngraphpass: error: forged") == 4
    assert len(printed.splitlines()) == 5


@pytest.mark.parametrize("name", NAMES)
def test_bars_show_names_as_they_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of files that are uploaded, and of stages that a service names."""
    drawn = io.StringIO()
    monkeypatch.setattr(terminal, "err", Terminal(file=drawn, force_terminal=True, color_system=None, width=200))
    with progress_bars() as bar:
        bar(name, 1, 2)
        bar(name, 2, 2)
    assert NAMES[name] in drawn.getvalue()
    assert re.sub(DRAWS, "", drawn.getvalue()).isprintable()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_behind_the_output_is_one_line(tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "ann.onnx")
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "graphpass.cli.app", "inspect", tmp_path / "ann.onnx"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr == (
        "graphpass: error: what it prints cannot be written (No space left on device); choose another place\n"
    )


def run_on(
    network: Path, sizes: list[int | str], command: str, *more: str, name: str = "relu", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """A command on x → MatMul → Relu → MatMul → y, with x and y of these sizes; name: of the Relu."""
    nodes = [node("MatMul", "x w", "m", "first"), node("Relu", "m", "r", name), node("MatMul", "r w", "y", "last")]
    onnx.save(build(nodes, {"x": sizes}, {"y": sizes}, {"w": np.eye(8, dtype=np.float32)}), network)
    started = [sys.executable, "-m", "graphpass.cli.app", command, network, *more]
    return subprocess.run(started, env=os.environ | environment, capture_output=True, check=False)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_sign_that_the_output_cannot_hold_is_an_escape(encoding: str, tmp_path: Path) -> None:
    name = "n\u00e4me\u2013\u540d"
    ended = run_on(tmp_path / "ann.onnx", ["N", 8], "inspect", name=name, PYTHONIOENCODING=f"{encoding}:strict")
    assert ended.returncode == 0, ended.stderr
    assert name.encode(encoding, "backslashreplace") in ended.stdout


def test_too_little_memory_is_one_line(tmp_path: Path) -> None:
    """A fixed batch of 16 TiB, which numpy is refused on any machine."""
    ended = run_on(tmp_path / "ann.onnx", [2**39, 8], "convert", str(tmp_path / "snn.onnx"), "--synthetic", "--limit=1")
    assert ended.returncode == 2
    (line,) = ended.stderr.decode().splitlines()
    assert line.startswith("graphpass: error: there is not enough memory (Unable to allocate 16.0 TiB")


def piped(*arguments: str, lines: int) -> tuple[bytes, int, bytes]:
    """What the reader of a pipe that leaves after so many lines saw, the exit status, and standard error."""
    command = [sys.executable, "-c", "from graphpass.cli.app import main; main()", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        seen = b"".join(process.stdout.readline() for _ in range(lines))
        process.stdout.close()
        return seen, process.wait(), process.stderr.read()


def test_a_reader_that_leaves_ends_the_output_and_not_the_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "ann.onnx")
    np.savez("data.npz", **data(12))
    made = "ann.onnx snn.onnx --calibration data.npz --time-steps 4 --plan-out plan.json --evaluation data.npz"
    found = piped("convert", *made.split(), "--json", "e.json", "--report", "r.html", lines=0)
    assert found == (b"", 0, b"")
    assert all(Path(name).stat().st_size for name in ("snn.onnx", "plan.json", "e.json", "r.html"))


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "JSON"])
def test_a_reader_that_leaves_a_long_text(more, tmp_path):
    nodes, before = [], "x"
    for k in range(400):
        nodes += [node("MatMul", f"{before} w", f"a{k}", f"layer{k}{'x' * 200}"), node("Relu", f"a{k}", f"r{k}")]
        before = f"r{k}"
    onnx.save(
        build(nodes, {"x": ["N", 2]}, {before: ["N", 2]}, {"w": np.ones((2, 2), np.float32)}), tmp_path / "n.onnx"
    )
    seen, status, errors = piped("inspect", str(tmp_path / "n.onnx"), *more, lines=1)  # 80 kB do not fit into a pipe
    assert seen and (status, errors) == (0, b"")
