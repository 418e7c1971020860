"""The documentation against the code: operators, links and command lines."""

import re
import shlex
import shutil
import tomllib
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
from graphpass.errors import OptionError
from graphpass.forms import operators
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.maths.neuron import CODINGS
from tests.models import build, node

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
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


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings: lower case, without punctuation, hyphens for spaces."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_headings_find_them(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = [link.split("#") for link in re.findall(r"\]\(([^)\s:]*#[^)\s:]+)\)", text)]
    assert [f"{page}#{name}" for page, name in links if name not in anchors(path.parent / page if page else path)] == []


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
    if arguments[0] == "plot":
        root, arguments = root.commands["plot"], arguments[1:]
    name, *rest = arguments
    if name.startswith("-"):
        assert any(name in option.opts for option in root.params) or name == "--help", name
        return
    assert name in root.commands, f"no command {name}"
    if "--help" not in rest:
        root.commands[name].make_context(name, rest)


COMMANDS = {str(path.relative_to(ROOT)): command_lines(path.read_text("utf-8")) for path in PAGES}
ELSEWHERE = {  # what command lines are not run here for
    "serve": "tests/service",
    "worker": "tests/service",
    "keys": "tests/service/test_keys_command.py",
    "plot": "tests/cli",
    "--server": "tests/service/test_documented.py",
    "rec.onnx": "needs a network that reads text: tests/evaluation/metrics",
    "cuda": "asks for a GPU",
    "cuda:use_tf32=1": "asks for a GPU",
    "$URL": "tests/test_tutorials.py",
}


@pytest.mark.parametrize("page", [page for page, found in COMMANDS.items() if found])
def test_the_command_lines_of_the_documentation_parse(page: str) -> None:
    for arguments in COMMANDS[page]:
        parse(arguments)


@pytest.mark.filterwarnings("ignore::graphpass.ConversionWarning")  # that --synthetic costs accuracy
@pytest.mark.parametrize("page", [page for page, found in COMMANDS.items() if found and "tutorials/" not in page])
def test_the_command_lines_of_the_documentation_run(page: str, folder: Path) -> None:
    for arguments in COMMANDS[page]:
        if not ELSEWHERE.keys() & set(arguments):
            assert commands().main(arguments, standalone_mode=False) in (None, 0), arguments


def test_pages_have_command_lines() -> None:
    assert {"README.md", "docs/start.md", "docs/how-to.md", "docs/service.md", "docs/metrics.md"} <= COMMANDS.keys()
    assert sum(map(len, COMMANDS.values())) >= 40


LANGUAGES = {  # of fenced blocks → where they are tested
    "python": "test_blocks_of_python_run_as_they_stand; in tutorials tests/test_tutorials.py",
    "sh": "test_the_command_lines_of_the_documentation_run, test_other_commands_are_there",
    "json": "tests/test_formats.py",
    "nginx": "tests/service/api/test_proxy.py",
    "mermaid": "tests/test_architecture.py",
    "": "trees of files: tests/test_architecture.py; bodies of functions: tests/test_operator_pages.py",
}


def test_no_block_is_of_a_kind_that_no_test_knows() -> None:
    found = [language for path in PAGES for language in re.findall(r"^```(\w*)\n", path.read_text("utf-8"), re.M)]
    openings = [language for language in found if language]  # a closing fence reads as a block without language
    assert set(openings) == set(LANGUAGES) - {""}
    plain = [path for path in PAGES if re.search(r"(?:\A|\n)\n```\n", path.read_text("utf-8"))]
    assert {path.parent.name for path in plain} == {"docs", "operators"}


def test_other_commands_are_there() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    for path in PAGES:
        text = path.read_text("utf-8")
        for module, options in re.findall(r"python3? -m ((?:benchmarks|tests|docs|examples)[\w.]*)([^`\n#]*)", text):
            place = ROOT.joinpath(*module.split("."))
            files = list(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
            assert files and all(file.exists() for file in files), f"{path.name}: {module}"
            shared = ROOT / "benchmarks" / "timing.py"  # options of all that take times
            code = "".join(file.read_text("utf-8") for file in (*files, shared))
            assert [each for each in re.findall(r"--[\w-]+", options) if f'"{each}"' not in code] == [], module
        for script in re.findall(r"(?<![\w/.])((?:scripts|\.ci)/[\w-]+)", text):
            assert (ROOT / script).exists(), f"{path.name}: {script}"
        for group in re.findall(r"pip install --group (\w+)", text):
            assert group in groups["dependency-groups"], f"{path.name}: {group}"
        if path.parent.name == "tutorials":  # they run: tests/test_tutorials.py
            continue
        for extras in re.findall(r"graphpass\[([\w,]+)\]", text):
            assert set(extras.split(",")) <= groups["project"]["optional-dependencies"].keys(), f"{path.name}: {extras}"


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
    with pytest.raises((typer.BadParameter.__base__, OptionError)):
        parse(command_lines(f"    graphpass {line}\n")[0])


def test_unknown_commands_do_not_parse() -> None:
    with pytest.raises(AssertionError, match="no command"):
        parse(command_lines("    graphpass \\\n        convret a.onnx\n")[0])


NOT_RUN = {  # block of Python, as page and number
    ("docs/native.md", 0): "asks for a GPU",
    ("docs/native.md", 1): "asks for a GPU",
    ("docs/pytorch.md", 1): "downloads a network (tests/pytorch/test_transformers.py builds some)",
    ("docs/pytorch.md", 3): "needs TensorFlow",
    ("docs/service.md", 0): "asks a service: tests/service/test_documented.py",
}
BLOCKS = [
    (str(path.relative_to(ROOT)), number, block)
    for path in PAGES
    if path.parent.name != "tutorials"  # tests/test_tutorials.py
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
    shutil.copy(tmp_path / "ann.onnx", tmp_path / "net.onnx")
    shutil.copy(tmp_path / "labelled.npz", tmp_path / "test.npz")
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
        if path.parent.name == "tutorials":  # they run: tests/test_tutorials.py
            continue
        for block in re.findall(r"```.*?```|`[^`\n]*`", path.read_text("utf-8"), re.DOTALL):
            for name in re.findall(r"\bgraphpass\.([A-Za-z_]+)\(", block):
                assert hasattr(graphpass, name), f"{path.name}: graphpass.{name}"
