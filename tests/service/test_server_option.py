"""The command line with --server on the real service: the same bytes and figures as here, and interrupts."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphpass.cli.app import main
from tests.models import build, node
from tests.service.running import COMMAND, EXAMPLE, Server
from tests.service.sandbox.hostile_files import endless_loop
from tests.sources import save_image


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("command_line")) as server:
        yield server


@pytest.mark.slow
def test_an_interrupt_on_the_command_line_cancels_the_job(service: Server, tmp_path: Path) -> None:
    (tmp_path / "loop.onnx").write_bytes(endless_loop().SerializeToString())
    np.savez(tmp_path / "few.npz", x=np.zeros((16, 4), np.float32))
    line = ["convert", "loop.onnx", "snn.onnx", "--calibration", "few.npz", "--server", service.url]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # ignored where the tests run in the background
    with subprocess.Popen(
        [*COMMAND, *line],
        env={**os.environ, "GRAPHPASS_KEY": service.key},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        preexec_fn=heard,
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not (running := service.http.get("/v1/conversions?state=running").json()["items"]):
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        finally:
            process.kill()  # else a failure would wait for a job without end
    assert service.http.get(running[0]["links"]["self"]).json()["state"] == "cancelled"
    assert not (tmp_path / "snn.onnx").exists()


def test_a_search_on_a_service_that_finds_nothing_has_its_report(
    service: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["convert", str(EXAMPLE / "fashion_mnist.onnx"), str(tmp_path / "snn.onnx")]
    line += ["--calibration", str(EXAMPLE / "calibration.npz"), "--evaluation", str(EXAMPLE / "evaluation.npz")]
    line += ["--max-drop", "1e-9", "--time-steps", "1", "--method", "max", "--limit", "32"]
    line += ["--server", service.url, "--key", service.key]
    line += ["--report", str(tmp_path / "r.html"), "--json", str(tmp_path / "s.json")]
    with pytest.raises(SystemExit) as ended:
        main(line)
    assert ended.value.code == 3
    printed = capsys.readouterr()
    assert "2 trials" in printed.out
    told = " ".join(printed.err.split())
    assert "The outputs need these sites most" in told and "the closest setting: --time-steps 1 --coding" in told
    assert "Which sites cost the accuracy" in (tmp_path / "r.html").read_text("utf-8")
    assert json.loads((tmp_path / "s.json").read_text("utf-8"))["shares"]
    assert not (tmp_path / "snn.onnx").exists()


@pytest.mark.slow
def test_the_command_line_on_a_service_makes_the_same_bytes(service: Server, tmp_path: Path) -> None:
    def run(*arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [*COMMAND, *arguments],
            env={**os.environ, "GRAPHPASS_KEY": service.key, "COLUMNS": "160"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    ann, data = str(EXAMPLE / "fashion_mnist.onnx"), str(EXAMPLE / "evaluation.npz")
    line = ["convert", ann, "snn.onnx", "--calibration", str(EXAMPLE / "calibration.npz"), "--limit", "64"]
    line += ["--time-steps", "2", "--plan-out", "plan.json"]
    there = ("--server", service.url)
    run(*line)
    written = ("snn.onnx", "plan.json", "plan.npz")
    here = [(tmp_path / name).read_bytes() for name in written]
    (tmp_path / "snn.onnx").unlink()
    measured = ("--evaluation", data, "--metric", "classes", "--metric", "embedding", "--energy-model", "horowitz45")
    said = run(*line, *there, *measured, "--report", "r.html", "--json", "e.json")
    assert [(tmp_path / name).read_bytes() for name in written] == here
    assert "5 sites, T = 2" in said and "top-1 accuracy" in said and "cosine (embedding)" in said
    assert "does not run your functions" in run(*line, *there, *measured, "--metric", "mine.py:top", status=2)
    kept = json.loads((tmp_path / "e.json").read_text())
    assert kept["samples"] == 1000 and (tmp_path / "r.html").exists()
    assert kept["energy"]["model"] == "horowitz45" and kept["energy"]["verdict"] in said
    run(*line[:-1], "other.json", *there)  # of another name, beside the first
    assert (tmp_path / "other.npz").read_bytes() == here[2] == (tmp_path / "plan.npz").read_bytes()
    assert (tmp_path / "other.json").read_bytes().replace(b"other.npz", b"plan.npz") == here[1]
    run("convert", ann, "again.onnx", "--plan", "other.json")
    assert (tmp_path / "again.onnx").read_bytes() == here[0]

    assert "93.20 %" in run("evaluate", ann, "snn.onnx", "--data", data, *there)
    swept = run("sweep", ann, "--calibration", data, "--data", data, "--time-steps", "1", "--method", "max", *there)
    assert "rate" in swept and "93.20 %" in swept
    ranked = ["inspect", ann, "--calibration", data, "--limit", "64", "--time-steps", "2", "--method", "max", "--json"]
    assert json.loads(run(*ranked, *there)) == json.loads(run(*ranked))["ranking"]
    assert "leave the worst analogue with --exclude" in run(*ranked[:-1], *there)
    assert "needs --calibration" in run(*ranked[:2], *there, status=2)
    options = [*line[:2], "auto.onnx", *line[3:5], "--method", "max", "--time-steps", "8", "--levels", "auto"]
    here = [run(*options, "--evaluation", data), (tmp_path / "auto.onnx").read_bytes()]
    there_said = run(*options, "--evaluation", data, *there)
    assert (tmp_path / "auto.onnx").read_bytes() == here[1]
    for said in (here[0], there_said):
        assert re.search(r"T = \d \(rate, \d–\d levels\)", said) and re.search(r"\d–\d levels, mean \d\.\d", said), said
    made = [*line[:2], "made.onnx", "--synthetic", "--limit", "32", "--time-steps", "2", "--method", "max"]
    warning = "warning: CALIBRATED ON SYNTHETIC DATA (no normalisation to match)"
    assert warning in " ".join(run(*made).split())
    unreal = (tmp_path / "made.onnx").read_bytes()
    (tmp_path / "made.onnx").unlink()
    assert warning in " ".join(run(*made, *there).split())
    assert (tmp_path / "made.onnx").read_bytes() == unreal
    assert "--threads and --server exclude" in run(
        "evaluate", ann, ann, "--data", data, *there, "--threads", "1", status=2
    )
    assert "unknown or revoked" in run(*line, *there, "--key", "gp_wrong", status=2)
    assert "does not run your functions" in run(*line[:3], "--calibration", "data.py:make", *there, status=2)


PROCESSOR = {
    "image_processor_type": "ViTImageProcessor", "size": {"height": 6, "width": 6}, "resample": 2, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.4, 0.4, 0.4], "image_std": [0.2, 0.2, 0.2],
}  # fmt: skip


@pytest.mark.parametrize("prepare", [("--preset", "imagenet"), ("--preprocess", "p.json")], ids=lambda each: each[0])
def test_images_are_prepared_on_a_service_as_here(
    service: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: tuple[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    weights = {"w": random.normal(size=(4, 3, 3, 3)), "v": random.normal(size=(4, 2))}
    nodes = [node("Conv", "x w", "a"), node("Relu", "a", "b"), node("GlobalAveragePool", "b", "c"),
             node("Flatten", "c", "d"), node("MatMul", "d v", "y")]  # fmt: skip
    constants = {name: value.astype(np.float32) for name, value in weights.items()}
    onnx.save(build(nodes, {"x": ["N", 3, 6, 6]}, {"y": ["N", 2]}, constants), "ann.onnx")
    for number in range(6):  # in two classes
        folder = tmp_path / "images" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        save_image(folder / f"{number}.png", random.integers(0, 255, (9, 8, 3)).astype(np.uint8))
    Path("p.json").write_text(json.dumps(PROCESSOR))

    def run(snn: str, *more: str) -> bytes:
        line = f"convert ann.onnx {snn} --calibration images --evaluation images --time-steps 2 --json {snn}.json"
        with pytest.raises(SystemExit) as ended:
            main([*line.split(), *more])
        assert ended.value.code == 0
        return Path(snn).read_bytes()

    monkeypatch.setenv("GRAPHPASS_KEY", service.key)
    there = run("there.onnx", *prepare, "--server", service.url)
    assert there == run("here.onnx", *prepare)
    assert there != run("plain.onnx")  # pixels/255
    figures = [json.loads(Path(f"{snn}.onnx.json").read_text()) for snn in ("there", "here", "plain")]
    assert figures[0]["outputs"] == figures[1]["outputs"] != figures[2]["outputs"]


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x0a\x12\xff\xff\xff\xff\x0f"])
@pytest.mark.parametrize("command", ["convert", "evaluate"])
def test_a_broken_model_is_one_line_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ann.onnx").write_bytes(content)
    Path("x.npz").write_bytes(b"")
    server = ("--server", "http://127.0.0.1:1")
    data = ("--data", "x.npz") if command == "evaluate" else ("--calibration", "x.npz")
    with pytest.raises(SystemExit) as ended:
        main([command, "ann.onnx", "snn.onnx", *data, *server])
    errors = capsys.readouterr().err
    assert ended.value.code == 2 and errors.count("\n") == 1 and errors.startswith("graphpass: error: ann.onnx: not ")
