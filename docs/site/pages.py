"""What MkDocs does in addition to mkdocs.yml: pages from outside docs/, generated parts, lists in the navigation.

    on_config         `folder/*` in the navigation stands for the pages of the folder that it does not name elsewhere
    on_files          README.md, CONTRIBUTING.md, CHANGELOG.md and SECURITY.md become pages; their links are made to fit
                      the script that draws diagrams becomes a file of the site
    on_page_markdown  `<!-- generated: NAME -->` becomes what GENERATED makes; links to README.md lead to the first page
    on_page_content   a page with diagrams gets the script that draws them
    on_post_build     a broken link is a warning, and so is anything that a page would load from another server

Links are written as GitHub needs them, from file to file.
"""

import logging
import re
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url
from typer.cli import get_docs_for_click

import graphpass
from docs.site import diagrams, http_api, links
from graphpass import errors
from graphpass.cli.app import app
from service.app import routes

ROOT = Path(__file__).parents[2]
LOG = logging.getLogger("mkdocs.hooks.pages")  # MkDocs counts its warnings
MOVED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "SECURITY.md": "security.md",
}  # file → page


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replace every `folder/*` of the navigation by pages."""
    assert config.nav
    named = set(re.findall(r"[\w./-]+\.md", str(config.nav)))

    def expanded(entry: Any) -> list[Any]:
        if isinstance(entry, dict):
            return [{title: [each for item in items for each in expanded(item)]} for title, items in entry.items()]
        if not entry.endswith("/*"):
            return [entry]
        folder = Path(config.docs_dir, entry).parent
        found = sorted(str(path.relative_to(config.docs_dir)) for path in folder.glob("*.md"))
        return [page for page in found if page not in named]

    config.nav = [each for entry in config.nav for each in expanded(entry)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/, and the script that draws diagrams."""
    for name, page in MOVED.items():
        files.append(File.generated(config, page, content=from_root((ROOT / name).read_text("utf-8"))))
    files.append(File.generated(config, diagrams.ADDRESS, content=diagrams.script()))
    return files


def from_root(text: str) -> str:
    """Links of a file in the root, as those of a page: `docs/x.md` → `x.md`."""
    text = re.sub(r"(\]\(|src=\")docs/", r"\1", text)
    for name, page in MOVED.items():
        text = text.replace(f"]({name}", f"]({page}")
    return text


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in what is generated."""
    for name, page_name in MOVED.items():
        markdown = re.sub(rf"\]\(((?:\.\./)*)\.\./{re.escape(name)}", rf"](\1{page_name}", markdown)
    return re.sub(r"<!-- generated: (\w+) -->", lambda found: GENERATED[found[1]](), markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the script that draws diagrams into pages with diagrams: it has 2.6 MB."""
    if '<pre class="mermaid">' not in html:
        return html
    return f'{html}\n<script src="{get_relative_url(diagrams.ADDRESS, page.url)}"></script>'


def on_post_build(config: MkDocsConfig) -> None:
    """Check the links of the site."""
    for fault in links.faults(Path(config.site_dir)):
        LOG.warning(fault)


def command_line() -> str:
    """All commands with their options, from typer."""
    for command in entry_points(group="graphpass.commands"):
        command.load()(app)
    root: Any = typer.main.get_command(app)
    text = get_docs_for_click(obj=root, ctx=typer.Context(root, info_name="graphpass"), name="graphpass")
    return text.partition("\n")[2]  # the page has a title of its own


def python_names() -> str:
    """The public names of graphpass, functions first, as directives of mkdocstrings."""
    names = sorted(graphpass.__all__, key=lambda name: (name[0].isupper(), name))
    return "\n\n".join(f"::: graphpass.{name}" for name in names)


def error_tree() -> str:
    """The errors, each under its base."""

    def lines(error: type[BaseException], depth: int) -> list[str]:
        own = f"{'    ' * depth}* `{error.__name__}`: {(error.__doc__ or '').strip().splitlines()[0]}"
        return [own, *(line for each in error.__subclasses__() for line in lines(each, depth + 1))]

    return "\n".join(lines(errors.GraphpassError, 0))


def service_routes() -> str:
    """The routes and schemas of the service, from its OpenAPI document."""
    return http_api.markdown(routes().openapi())


GENERATED: dict[str, Callable[[], str]] = {
    "command_line": command_line,
    "python_names": python_names,
    "error_tree": error_tree,
    "service_routes": service_routes,
}
