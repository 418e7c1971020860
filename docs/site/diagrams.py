"""Diagrams of Mermaid: the script that draws them is part of the site, so that a reader's browser asks no other server.

The theme would load the newest Mermaid from unpkg.com. It loads nothing if a page has defined `mermaid` itself.
"""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from mkdocs.exceptions import PluginError

VERSION = "11.17.2"
SHA256 = "7a644017d37f93c8359790884e6b67fb1f747c78eb20475952404bd87190a3f8"  # of mermaid.tiny.js, without rare diagrams
KEPT = Path(__file__).parents[2] / "build" / f"mermaid-{VERSION}.js"
ADDRESS = "assets/mermaid.js"  # in the site


def script() -> bytes:
    """The script. npm fetches it once; it is kept in build/."""
    if not KEPT.exists():
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_bytes(fetched())
    return checked(KEPT.read_bytes())


def fetched() -> bytes:
    """The script from the package @mermaid-js/tiny of npm's registry."""
    npm = shutil.which("npm")
    if npm is None:
        raise PluginError("npm is missing, which fetches Mermaid for the diagrams: apt-get install npm")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", "--pack-destination", folder, f"@mermaid-js/tiny@{VERSION}"]
        done = subprocess.run(command, capture_output=True, text=True)
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            raise PluginError(f"npm cannot fetch Mermaid {VERSION}: {done.stderr.strip()}")
        with tarfile.open(archives[0]) as archive:
            member = archive.extractfile("package/dist/mermaid.tiny.js")
            assert member is not None  # a plain file
            return checked(member.read())


def checked(content: bytes) -> bytes:
    """The content, if it is the script of this version."""
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        raise PluginError(f"Mermaid {VERSION} has the SHA-256 {found}, not {SHA256}: delete {KEPT}, or change SHA256")
    return content
