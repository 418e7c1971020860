"""The folder of one task, as the task sees it."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from graphpass.errors import OptionError
from service.sandbox.limits import Limits

T = TypeVar("T")


class Lasting:
    """What a process keeps open from one task to the next of the same job: one context."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._known: Any = None
        self._value: Any = None

    def open(self, known: Any, make: Callable[[], AbstractContextManager[T]]) -> T:
        """What is open if it depends on the same, else what `make` opens in its place.

        known: all that it depends on.
        """
        if self._known != known:
            self._stack.close()
            self._known = None
            self._value = self._stack.enter_context(make())
            self._known = known
        value: T = self._value
        return value


@dataclass(frozen=True)
class Workplace:
    """folder: holds in, out and tmp.

    progress: called with (stage, done, total). confined: what confines the process. lasting: for further tasks.
    """

    folder: Path
    arguments: Mapping[str, Any]
    limits: Limits
    progress: Callable[[str, int, int], None]
    confined: Mapping[str, Any]
    lasting: Lasting = field(default_factory=Lasting)

    def file(self, role: str) -> Path:
        """The file that an argument names, beneath in. Raises OptionError where there is none."""
        return self._file(role, self.arguments.get(role))

    def files(self, role: str) -> list[Path]:
        """The files of an argument that names any number of them; none where it is left out."""
        names = self.arguments.get(role, [])
        if not isinstance(names, list):
            raise OptionError(f"{role}: not a list of files", "give paths relative to the input folder")
        return [self._file(role, name) for name in names]

    def _file(self, role: str, name: object) -> Path:
        if not isinstance(name, str) or not is_plain(name):
            raise OptionError(f"{role}: {name!r} names no file", "give the path of a file relative to the input folder")
        path = self.folder / "in" / name
        if not path.is_file():
            raise OptionError(f"{role}: there is no {name}", "put it into the input folder")
        return path

    def scratch(self, role: str) -> Path:
        """Make a folder, named like the file of this role, for what that unpacks to."""
        folder = self.folder / "tmp" / role / self.file(role).name
        folder.mkdir(parents=True)
        return folder

    def out(self, name: str) -> Path:
        """The path of a file that the task leaves for its caller."""
        return self.folder / "out" / name

    def without_folders(self, text: str) -> str:
        """A message without this machine's folders: files are named as the user named them."""
        for role, name in self.arguments.items():
            if isinstance(name, str) and name:
                text = text.replace(f"{self.folder}/in/{name}", PurePosixPath(name).name)
            text = text.replace(f"{self.folder}/tmp/{role}/", "")
        for place in ("/in/", "/tmp/", "/out/", "/", ""):
            text = text.replace(f"{self.folder}{place}", "")
        return text

    def role_in(self, text: str) -> str:
        """The argument whose file a message names; "" for none."""
        names = {role: PurePosixPath(name).name for role, name in self.arguments.items() if isinstance(name, str)}
        return next((role for role, name in names.items() if name and name in text), "")


def is_plain(name: str) -> bool:
    """Whether a path is relative, stays where it starts, and can be shown."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and "\\" not in name and name.isprintable()
