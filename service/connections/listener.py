"""The listening socket.

It answers by itself where no descriptor is left, or where an address has too many connections.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

IN_A_ROW = 8  # connections that are accepted before requests on others are answered
TURNED_AWAY = 4  # connections that are turned away count as one of these
SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Listener(socket.socket):
    """A listening TCP socket for asyncio, which takes connections in a loop until one is refused with BlockingIOError.

    busy: sent to a connection for which no descriptor is left. asyncio alone would leave it waiting, try again hundreds
    of times a second, and log each time. turn_away: called with the address of a connection before anything is made for
    it; gives what it is sent if it is one too many.
    """

    busy = b""
    _reserve: int | None = None
    _in_a_row = 0.0
    turn_away: Callable[[str], bytes | None] | None = None

    def listen(self, backlog: int = 512, /) -> None:
        """See socket.listen. A spare descriptor is opened, to be used when no other is left."""
        super().listen(backlog)
        self._keep()

    def accept(self) -> tuple[socket.socket, Any]:
        """See socket.accept.

        After IN_A_ROW connections the others wait for a moment, in which requests are answered.
        """
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
        """Accept the next connection if there is a descriptor for it; otherwise answer it that the service is busy."""
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
    """Whether the caller has closed the connection without sending anything, as floods of connections mostly do."""
    connection.setblocking(False)
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
