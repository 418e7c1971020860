"""Sessions over several networks, which hold as much memory as their weights while they are open, and no longer."""

from collections.abc import Callable, Iterator, Mapping

from graphpass.runtime.session import Session


class Sessions(Mapping[str, Session]):
    """Sessions by the names of their networks. Each is opened when it is asked for, and again after it was closed.

    openers: open them.
    """

    def __init__(self, openers: Mapping[str, Callable[[], Session]]):
        self._openers = openers
        self._open: dict[str, Session] = {}

    def __getitem__(self, name: str) -> Session:
        if name not in self._open:
            self._open[name] = self._openers[name]()
        return self._open[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._openers)

    def __len__(self) -> int:
        return len(self._openers)

    def open(self) -> None:
        """Open all of them, the last first: it is made of the first, and takes the most memory while it opens."""
        for name in reversed(list(self)):
            self[name]

    def close(self) -> None:
        """Close all of them."""
        self._open.clear()
