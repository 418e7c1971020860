"""The documentation against the code: operators, links and command lines."""

import re
import shlex
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import typer

import graphpass
from graphpass.cli.app import app
from graphpass.forms import operators
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.maths.neuron import CODINGS
from tests.models import build, node

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
OPERATORS = operators.functions(CODINGS[0], 21)


def rows(page: str, column: str) -> list[str]:
    """Names in the first column of the table whose header starts with `column`."""
    table = re.search(rf"^\| {column} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", page, re.MULTILINE)
    assert table, f"no table of {column}s"
    return re.findall(r"^\| `(\w+)` \|", table[1], re.MULTILINE)


@pytest.mark.parametrize("function", OPERATORS, ids=lambda function: function.name)
def test_every_operator_has_a_page_with_its_inputs_outputs_and_attributes(function) -> None:
    path = ROOT / "docs" / "operators" / f"{function.name}_v{operators.VERSION}.md"
    page = path.read_text("utf-8")
    assert page.startswith(f"# {function.name}, version {operators.VERSION}\n")
    assert f"Domain `{SPIKING_DOMAIN}`" in page
    assert rows(page, "input") == list(function.input)
    assert rows(page, "output") == list(function.output)
    assert sorted(rows(page, "attribute")) == sorted(function.attribute)


def test_every_operator_page_has_its_operator() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "operators").glob("*.md")}
    assert pages == {f"{function.name}_v{operators.VERSION}" for function in OPERATORS}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_point_to_files(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [target.split("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    assert [target for target in local if not (path.parent / target).exists()] == []


def command_lines(text: str) -> list[list[str]]:
    """Arguments of every line `graphpass …` in code blocks, fenced or indented; a backslash continues a line."""
    joined = re.sub(r"\\\n\s*", " ", text)
    fenced = "".join(re.findall(r"^```\w*\n(.*?)^```", joined, re.MULTILINE | re.DOTALL))
    indented = "\n".join(re.findall(r"^    (.*)$", re.sub(r"^```.*?^```", "", joined, flags=re.M | re.S), re.MULTILINE))
    lines = re.findall(r"^(?:\$ |exec )?(?:[A-Z_]+=\S+ )*graphpass (.+)$", f"{fenced}\n{indented}", re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


@cache
def commands() -> Any:
    """All commands of `graphpass`."""
    for command in entry_points(group="graphpass.commands"):
        command.load()(app)
    return typer.main.get_command(app)


def parse(arguments: list[str]) -> None:
    """Parse without running. Raises the usage errors of the command line."""
    root = commands()
    name, *rest = arguments
    if name.startswith("-"):
        assert any(name in option.opts for option in root.params) or name == "--help", name
        return
    assert name in root.commands, f"no command {name}"
    if "--help" not in rest:
        root.commands[name].make_context(name, rest)


@pytest.mark.parametrize("page", ["README.md", "docs/service.md"])
def test_the_command_lines_of_the_documentation_parse(page: str) -> None:
    found = command_lines((ROOT / page).read_text("utf-8"))
    assert found
    for arguments in found:
        parse(arguments)


def test_the_command_line_of_the_demo_parses() -> None:
    text = (ROOT / "scripts" / "demo").read_text("utf-8").replace('"$graphpass"', "graphpass")
    found = command_lines(f"```\n{text}```\n")
    assert [arguments[0] for arguments in found] == ["sweep", "convert", "verify", "serve"]
    for arguments in found:
        parse(arguments)


@pytest.mark.parametrize(
    "line", ["convert a.onnx", "convert a.onnx b.onnx --tme-steps 4", "convert a.onnx b.onnx --time-steps four"]
)
def test_wrong_command_lines_do_not_parse(line: str) -> None:
    with pytest.raises(typer.BadParameter.__base__):
        parse(command_lines(f"    graphpass {line}\n")[0])


def test_unknown_commands_do_not_parse() -> None:
    with pytest.raises(AssertionError, match="no command"):
        parse(command_lines("    graphpass \\\n        convret a.onnx\n")[0])


NOT_RUN = {  # block of Python, as page and number
    ("docs/native.md", 0): "asks for a GPU",
    ("docs/native.md", 1): "asks for a GPU",
    ("docs/pytorch.md", 1): "downloads a network (tests/pytorch/test_transformers.py builds some)",
    ("docs/pytorch.md", 3): "needs TensorFlow",
    ("docs/service.md", 0): "asks a service (tests/service/test_client.py does)",
}
BLOCKS = [
    (str(path.relative_to(ROOT)), number, block)
    for path in PAGES
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.M | re.S))
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that pages speak of."""
    random = np.random.default_rng(0)
    weights = {"a": random.normal(size=(3, 8)).astype(np.float32), "b": random.normal(size=(8, 4)).astype(np.float32)}
    nodes = [node("GlobalAveragePool", "image", "p"), node("Flatten", "p", "f"), node("MatMul", "f a", "h"),
             node("Relu", "h", "r"), node("MatMul", "r b", "scores")]  # fmt: skip
    model = build(nodes, {"image": ["N", 3, 4, 4]}, {"scores": ["N", 4]}, weights)
    onnx.save(model, tmp_path / "ann.onnx")
    images, labels = random.random((16, 3, 4, 4), dtype=np.float32), random.integers(0, 4, 16)
    np.savez(tmp_path / "images.npz", image=images)
    np.savez(tmp_path / "labelled.npz", image=images, labels=labels)
    graphpass.convert(model, images, tmp_path / "snn.onnx", time_steps=4)
    monkeypatch.chdir(tmp_path)
    pages = {path: path.read_text("utf-8") for path in PAGES}
    margin = re.search(r"^def margin.*?^```", pages[ROOT / "docs" / "metrics.md"], re.MULTILINE | re.DOTALL)
    assert margin
    (tmp_path / "mine.py").write_text("import numpy as np\n" + margin[0].removesuffix("```"))
    return tmp_path


def of_pytorch() -> dict[str, Any]:
    """A classifier of PyTorch, and a DataLoader of images and labels."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install 'graphpass[torch]')")
    layers = (torch.nn.Conv2d(3, 8, 3, 4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    data = torch.utils.data.TensorDataset(torch.rand(12, 3, 224, 224), torch.arange(12) % 10)
    model = torch.nn.Sequential(*layers, torch.nn.Linear(32, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
    return {"model": model, "loader": torch.utils.data.DataLoader(data, batch_size=5), "torch": torch}


@pytest.mark.parametrize(("page", "number", "block"), BLOCKS, ids=lambda value: str(value)[:24])
def test_blocks_of_python_run_as_they_stand(page: str, number: int, block: str, folder: Path) -> None:
    if (page, number) in NOT_RUN:
        pytest.skip(NOT_RUN[page, number])
    for name, group in (("openvino", "openvino"), ("torch", "torch"), ("skl2onnx", "torch")):
        if re.search(rf"import .*\b{name}\b|from {name} ", block):
            pytest.importorskip(name, reason=f"{name} is not installed (pip install --group {group})")
    random = np.random.default_rng(1)
    names = {
        "graphpass": graphpass,
        "np": np,
        "images": random.integers(0, 256, (6, 3, 4, 4), np.uint8),
        "labels": random.integers(0, 4, 6),
        "paths": ["one"],
        "prepare": lambda path: (np.ones((3, 4, 4)), 2),
        **(of_pytorch() if page == "docs/pytorch.md" or "from_torch" in block else {}),
    }
    exec(compile(block, f"{page} {number}", "exec"), names)
    if "samples" in names:
        assert [each["labels"] for each in names["samples"]()] == [[2]]


def test_names_of_graphpass_in_pages_are_there() -> None:
    for path in PAGES:
        for block in re.findall(r"```.*?```|`[^`\n]*`", path.read_text("utf-8"), re.DOTALL):
            for name in re.findall(r"\bgraphpass\.([A-Za-z_]+)\(", block):
                assert hasattr(graphpass, name), f"{path.name}: graphpass.{name}"
