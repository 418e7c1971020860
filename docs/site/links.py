"""The built site by itself: links lead to pages and places that exist, and no page loads anything from another server.

MkDocs checks the links of Markdown. Links in HTML, in docstrings and in what the theme adds are checked here.
"""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}
UNLOADED = {"canonical", "prev", "next", "alternate"}  # rel of <link>: a browser does not fetch these


class Page(HTMLParser):
    """A page of HTML: ids, links that a reader can follow, and addresses that a browser loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = {name: value or "" for name, value in attrs}
        self.ids |= {of[name] for name in ("id", "name") if name in of}
        if tag == "a" and "href" in of:
            self.links.add(of["href"])
        if tag == "link" and not UNLOADED & set(of.get("rel", "").split()):
            self.loads.add(of.get("href", ""))
        if tag in LOADING and LOADING[tag] in of:
            self.loads.add(of[LOADING[tag]])
        self.loads |= set(outside(of.get("style", "")))


def outside(css: str) -> list[str]:
    """Addresses of other servers in CSS."""
    return re.findall(r"(?:url\(|@import\s)\s*[\"']?((?:https?:)?//[^\"')\s;]+)", css)


def faults(site: Path) -> list[str]:
    """What is wrong in a folder of HTML and CSS, one line each: empty if all is well."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    found = [
        f"{path.relative_to(site)} loads {each}"
        for path in sorted(site.rglob("*.css"))
        for each in outside(path.read_text("utf-8"))
    ]
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        found += [f"{name} loads {each}" for each in sorted(page.loads) if urlsplit(each).netloc]
        for link in sorted(page.links | page.loads):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            start = site if parts.path.startswith("/") else path.parent  # 404.html is shown at any address
            place = (start / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            place = place / "index.html" if place.is_dir() else place
            if not place.exists():
                found.append(f"{name} links to {link}: no such file")
            elif parts.fragment and place in pages and unquote(parts.fragment) not in pages[place].ids:
                found.append(f"{name} links to {link}: no such place")
    return found
