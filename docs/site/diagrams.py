"""Diagrams of Mermaid: the script that draws them is part of the site, so that a reader's browser asks no other server.

The theme would load the newest Mermaid from unpkg.com. It loads nothing if a page has defined `mermaid` itself.
"""

from mkdocs.exceptions import PluginError

from benchmarks import assets
from graphpass.errors import DataError

ADDRESS = "assets/mermaid.js"  # in the site


def script() -> bytes:
    """The script, which npm fetches once. Raises PluginError where it cannot."""
    try:
        return assets.member("mermaid", "*.js").read_bytes()
    except DataError as error:
        raise PluginError(str(error)) from error
