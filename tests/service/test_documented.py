"""The Python and the curl commands of docs/service.md, run as they stand against a service."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from graphpass.cli.app import main
from graphpass.options.table import OPTIONS
from graphpass.options.values import MOST_CHANNELS
from service.api import requests
from service.sandbox import bounds
from tests.service.running import EXAMPLE, ROOT, Server

PAGE = (ROOT / "docs" / "service.md").read_text("utf-8")
ADDRESS = "http://127.0.0.1:8000"
FILES = {
    "ann.onnx": "fashion_mnist.onnx",
    "images.npz": "calibration.npz",
    "calibration.npz": "calibration.npz",
    "labelled.npz": "evaluation.npz",
}


def test_bounds_of_lists_and_answers_are_those_of_the_code() -> None:
    most = requests.PATTERNS["max_length"], len(OPTIONS["metric"].names), MOST_CHANNELS
    assert "| {} of 1,000 characters each; {}; {} |".format(*most) in PAGE
    kib = bounds.SUMMARY >> 10, bounds.RESULT >> 10
    assert "| {} KiB; {} KiB; 4 KiB".format(*kib) in PAGE


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service."""
    with Server(tmp_path_factory.mktemp("documented")) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the page speaks of."""
    for name, origin in FILES.items():
        shutil.copy(EXAMPLE / origin, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_python_of_the_page_runs(server: Server, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(block.replace(ADDRESS, server.url).replace("gp_…", server.key), "docs/service.md", "exec"), {})
    assert re.search(r"^0\.9\d*$", capsys.readouterr().out, re.MULTILINE)  # top-1
    onnx.load(folder / "snn.onnx")
    assert "<html" in (folder / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_the_curl_commands_of_the_page_run(server: Server, folder: Path) -> None:
    curl = shutil.which("curl")
    if not curl or "--json" not in subprocess.run([curl, "--help", "all"], capture_output=True, text=True).stdout:
        pytest.skip("curl is missing, or older than 7.82")
    section = PAGE.split("\n## API\n")[1]
    block = re.search(r"(?:^    .*\n)+", section, re.MULTILINE)
    assert block
    settings, *commands = re.sub(r"\\\n\s*", " ", block[0]).strip().splitlines()
    settings = settings.replace(ADDRESS, server.url).replace("gp_…", server.key)
    ids: dict[str, list[str]] = {"mod": [], "dat": [], "con": []}
    for command in commands:
        wanted = {kind: iter(found) for kind, found in ids.items()}
        filled = re.sub(
            r"(mod|dat|con)_…(?=[\"/])", lambda found, ids=wanted: next(ids[found[1]]), command.split(" # ")[0]
        )
        script = f"{settings.strip()}\n{filled} --silent --show-error --fail"
        answer = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300)
        assert answer.returncode == 0, (filled, answer.stderr)
        if '# {"id"' in command or command.strip().endswith('labelled.npz"'):
            found = re.search(r'"id": ?"((mod|dat|con)_\w+)"', answer.stdout)
            assert found, answer.stdout
            ids[found[2]].append(found[1])
    assert '"state":"succeeded"' in subprocess.run(
        ["bash", "-c", f'{settings.strip()}\ncurl -sH "$AUTH" "$URL/v1/conversions/{ids["con"][0]}"'],
        capture_output=True,
        text=True,
    ).stdout.replace(": ", ":")
    assert (folder / "report.html").exists() and list(folder.glob("*snn*.onnx"))


@pytest.mark.slow
def test_the_command_lines_with_a_server_run(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHPASS_KEY", server.key)
    lines = re.findall(rf"^    graphpass (.* --server {re.escape(ADDRESS)})$", PAGE, re.MULTILINE)
    assert len(lines) == 4
    for line in lines:
        with pytest.raises(SystemExit) as ended:
            main(line.replace(ADDRESS, server.url).split())
        assert ended.value.code == 0, line
