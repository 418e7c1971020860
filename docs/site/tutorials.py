"""Tutorials: notebooks kept as Python, each with a page that has its outputs.

    python -m docs.site.tutorials                    runs all, and writes docs/tutorials/NAME.md and its figures
    python -m docs.site.tutorials 1_first_conversion ...

A tutorial runs in a folder of its own, in which `examples` leads to that of the repository: what it writes stays there.
"""

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import jupytext
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "tutorials"
FIGURES = "figures"
SECONDS = 300  # for a cell, on a busy machine
LEADING = ("examples", "benchmarks")  # folders of the repository that tutorials read


def sources() -> list[Path]:
    """All tutorials, in order."""
    return sorted(FOLDER.glob("*.py"))


def run(source: Path, folder: Path) -> Any:
    """The notebook with its outputs, run in an empty folder. Raises nbclient's CellExecutionError."""
    for name in LEADING:
        (folder / name).symlink_to(ROOT / name)
    notebook = jupytext.read(source)
    commands = str(Path(sys.executable).parent)  # where `graphpass` is
    environment = {
        **os.environ,
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
        "TTY_COMPATIBLE": "0",  # IPython says that there is a terminal; then rich would draw progress bars
    }
    with tempfile.TemporaryDirectory() as sockets:
        connection = {"transport": "ipc", "ip": f"{sockets}/kernel"}  # TCP would be open to everybody on the machine
        client = NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            coalesce_streams=True,
            resources={"metadata": {"path": str(folder)}},
            config=Config({"KernelManager": connection}),
        )
        return client.execute(env=environment)


def page(notebook: Any, name: str) -> tuple[str, dict[str, bytes]]:
    """The page as Markdown, and its figures by path. notebook: with outputs or without."""
    notebook.metadata["language_info"] = {"name": "python"}  # which only running it would tell
    resources = {"unique_key": name, "output_files_dir": FIGURES}
    text, found = MarkdownExporter().from_notebook_node(notebook, resources)
    text = text.replace("```bash\n%%bash\n", "```sh\n").replace("![png](", "![](")
    text = re.sub(r"\n{3,}", "\n\n", re.sub(r" +$", "", text, flags=re.MULTILINE)).strip()
    origin = f"This page is the notebook `docs/tutorials/{name}.py` with its outputs."
    return f"{text}\n\n---\n\n{origin} `jupytext --to ipynb {name}.py` makes an `.ipynb` of it.\n", found["outputs"]


def write(source: Path) -> None:
    """Run a tutorial and write its page."""
    with tempfile.TemporaryDirectory() as folder:
        text, figures = page(run(source, Path(folder)), source.stem)
    for path, content in figures.items():
        (FOLDER / path).parent.mkdir(exist_ok=True)
        (FOLDER / path).write_bytes(content)
    source.with_suffix(".md").write_text(text, "utf-8")
    print(source.with_suffix(".md").relative_to(ROOT))


def main() -> None:
    """Write the pages that are asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names
    known = {source.stem: source for source in sources()}
    if unknown := set(names) - set(known):
        parser.error(f"no tutorial {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for name in names or known:
        write(known[name])


if __name__ == "__main__":
    main()
