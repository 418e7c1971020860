"""Counts with their nouns: one of them has no plural."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphpass.cli.app import main
from graphpass.wording import counted
from tests.models import build, node

ROOT = Path(__file__).parent.parent
COUNTS = re.compile(r"\{(len\([^{}]*\)|[\w.]*\.length|count\([^{}]*\)|[\w.]*\bsamples)(:,)?\} ([a-z-]+ )?[a-z-]+s\b")


def test_one_several_and_none() -> None:
    assert [counted(number, "weight layer") for number in (0, 1, 2)] == [
        "0 weight layers",
        "1 weight layer",
        "2 weight layers",
    ]
    assert counted(1000, "class", "classes") == "1,000 classes" and counted(1, "class", "classes") == "1 class"


def test_nothing_writes_a_count_and_a_plural_by_itself() -> None:
    """`{len(sites)} sites` is wrong for one site: `counted` in Python and in the page's words.js."""
    files = [
        file for folder in ("graphpass", "service") for file in (ROOT / folder).rglob("*") if "native" not in str(file)
    ]
    found = [
        f"{file.relative_to(ROOT)}: {match[0]}"
        for file in files
        if file.suffix in (".py", ".js")
        for match in COUNTS.finditer(file.read_text("utf-8"))
    ]
    assert not found
    assert COUNTS.search("{len(found.sites)} sites") and COUNTS.search("${page.items.length} jobs")


def test_a_network_of_one_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    nodes = [node("Gemm", "x w", "g", "fc"), node("Relu", "g", "r", "relu"), node("Gemm", "r v", "y", "head")]
    weights = {"w": np.eye(4, dtype=np.float32), "v": np.eye(4, dtype=np.float32)}
    onnx.save(build(nodes, {"x": ["N", 4]}, {"y": ["N", 4]}, weights), "ann.onnx")
    np.savez("data.npz", x=np.ones((1, 4), np.float32))
    with pytest.raises(SystemExit):
        main(["inspect", "ann.onnx"])
    printed = capsys.readouterr().out
    assert "1 site\n" in printed.replace(" \n", "\n").replace("  ", "") and "1 sites" not in printed
    options = "--calibration data.npz --method max --evaluation data.npz --report r.html"
    with pytest.raises(SystemExit):
        main(["convert", "ann.onnx", "snn.onnx", *options.split()])
    printed = " ".join(capsys.readouterr().out.split()) + Path("r.html").read_text("utf-8")
    assert "snn.onnx: 1 site, T = 8" in printed and "1 sample, T = 8" in printed
    assert not re.search(r"\b1 (sites|samples|layers|nodes)\b", printed)
