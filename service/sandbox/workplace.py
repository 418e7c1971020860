"""The folder of one task, as the task sees it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from graphpass.errors import OptionError
from service.sandbox.limits import Limits


@dataclass(frozen=True)
class Workplace:
    """folder: holds in, out and tmp. progress: what, done, of how many."""

    folder: Path
    limits: Limits
    progress: Callable[[str, int, int], None]

    def file(self, arguments: dict[str, Any], role: str) -> Path:
        """The file that an argument names, beneath in. Raises OptionError where there is none."""
        name = arguments.get(role)
        if not isinstance(name, str) or not name or not is_plain(name):
            raise OptionError(f"{role}: {name!r} names no file", "give the path of a file relative to the input folder")
        path = self.folder / "in" / name
        if not path.is_file():
            raise OptionError(f"{role}: there is no {name}", "put it into the input folder")
        return path

    def scratch(self, role: str, name: str) -> Path:
        """An empty folder for what a file of this role and name unpacks to."""
        folder = self.folder / "tmp" / role / name
        folder.mkdir(parents=True)
        return folder

    def out(self, name: str) -> Path:
        return self.folder / "out" / name

    def told(self, text: str) -> str:
        """A message without this machine's folders: files are named as the user named them."""
        for place in ("in", "tmp", "out"):
            text = text.replace(f"{self.folder / place}/", "")
        return text.replace(f"{self.folder}/", "").replace(str(self.folder), "")


def is_plain(name: str) -> bool:
    """Whether a path is relative and stays where it starts."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and "\\" not in name and name.isprintable()
