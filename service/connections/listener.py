"""The socket that listens, and answers by itself where there is no descriptor left, or the caller has too many."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

IN_A_ROW = 8  # connections that are taken before others are served
TURNED_AWAY = 4  # that cost as much as one of these
SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Listener(socket.socket):
    """A listening TCP socket for asyncio, which takes connections in a loop until one is refused with BlockingIOError.

    Of connections that are taken without a descriptor for them asyncio knows nothing; without this it would leave them
    waiting, try again hundreds of times a second, and log each time. `busy` is what they are sent. Before anything is
    made for a connection `turn_away` is asked about its address, and says what it is sent if it is one too many.
    """

    busy = b""
    _reserve: int | None = None
    _in_a_row = 0.0
    turn_away: Callable[[str], bytes | None] | None = None

    def listen(self, backlog: int = 512, /) -> None:
        """See socket.listen; the descriptor that is kept is opened with it."""
        super().listen(backlog)
        self._keep()

    def accept(self) -> tuple[socket.socket, Any]:
        """See socket.accept. After some in a row the others wait for a moment, in which requests are answered."""
        while self._in_a_row < IN_A_ROW:
            connection, address = self._take()
            if _is_over(connection):
                self._in_a_row += 1 / TURNED_AWAY
                connection.close()
                continue
            answer = self.turn_away(address[0]) if self.turn_away else None
            if answer is None:
                self._in_a_row += 1
                return connection, address
            self._in_a_row += 1 / TURNED_AWAY
            with connection, contextlib.suppress(OSError):
                connection.send(answer)
        self._in_a_row = 0
        raise BlockingIOError(errno.EAGAIN, "others want to go on")

    def _take(self) -> tuple[socket.socket, Any]:
        """The next one, if there is a descriptor for it."""
        try:
            return super().accept()
        except OSError as error:
            self._in_a_row = 0
            if error.errno not in SHORT or self._reserve is None:
                raise
        os.close(self._reserve)
        self._reserve = None
        try:
            with contextlib.suppress(OSError), super().accept()[0] as connection:
                connection.setblocking(False)
                connection.send(self.busy)
        finally:
            self._keep()
        raise BlockingIOError(errno.EAGAIN, "no descriptor is left")

    def close(self) -> None:
        """See socket.close."""
        super().close()
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None

    def _keep(self) -> None:
        if self._reserve is None:
            with contextlib.suppress(OSError):  # somebody else was faster: the next one tries again
                self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def _is_over(connection: socket.socket) -> bool:
    """Whether the caller has gone away without a word, as most of those who connect again and again have."""
    connection.setblocking(False)
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
