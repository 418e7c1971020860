"""uvicorn's HTTP/1.1 on h11, with limits: strict about what it reads, and with an end to every wait.

    before a request   idle_seconds (of uvicorn) after an answer, header_seconds on a new connection        closed
    in its head        header_seconds from its first byte on                                                408
    in its body        stall_seconds below least_rate, while this side reads                                408
    in the answer      the same, while the other side does not read                                         cut
    answered early     LINGER_SECONDS and LINGER_BYTES of a body that nobody wants any more                 closed
    at the end         STOPPING_SECONDS after SIGTERM; whoever still sends or waits then                    503

Bodies are read as they are asked for and answers written as they are taken (uvicorn's flow control), so that a slow
caller holds a connection and some 64 KiB, and no thread.
"""

import asyncio
import logging
import secrets
import socket
import struct
import sys
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from service.connections.admission import Admission
from service.connections.answers import raw_answer
from service.connections.pace import Pace
from service.connections.strict import StrictConnection
from service.problems import ProblemError

MOST_HEAD_BYTES = 2**14
LINGER_SECONDS, LINGER_BYTES = 5.0, 2**24
STOPPING_SECONDS = 2.0  # that a request has when the process ends: less than uvicorn waits before it cancels it
READ_BYTES = 2**16  # at a time: then it is another connection's turn
UNSENT_BYTES = 2**17  # that the system keeps of an answer, besides what is under way: otherwise it takes some 4 MiB
ACKNOWLEDGED = struct.Struct("120xQ")  # of Linux's struct tcp_info: tcpi_bytes_acked
log = logging.getLogger(__name__)
uvicorn_log = logging.getLogger(f"{__name__}.uvicorn")
uvicorn_log.setLevel(logging.ERROR)  # it warns of every malformed request, which is logged here, with the reason


class GuardedProtocol(H11Protocol):
    """One connection. The module says how long it may take, Admission how many there may be."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        admission: Admission,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = uvicorn_log
        self._admission, self._bounds = admission, admission.bounds
        self._application, self.app = self.app, self._serve
        self.conn: StrictConnection = StrictConnection(MOST_HEAD_BYTES)
        now = self.loop.time()
        self._received = 0
        self._head_since: float | None = now  # of a request whose head is not complete; None while there is none
        self._answered_at = now
        self._drained = 0  # bytes received after the answer to their request
        self._body, self._answer = self._pace(now), self._pace(now)

    def _pace(self, now: float) -> Pace:
        return Pace(self._bounds.stall_seconds, self._bounds.least_rate, now)

    @property
    def host(self) -> str:
        """The address at the other end."""
        return self.client[0] if self.client else ""

    @property
    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._socket: socket.socket = transport.get_extra_info("socket")
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]  # of asyncio, which takes four times as much
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        if problem := self._admission.enter(self):
            self.refuse(problem)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._admission.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._received += len(data)
        if not self._busy and self.conn.their_state is h11.SEND_BODY:
            self._drained += len(data)
            if self._drained > LINGER_BYTES:
                self.transport.abort()
                return
        super().data_received(data)
        self._note_head()

    # uvicorn

    def on_response_complete(self) -> None:
        """Called by uvicorn when an answer is written. What the caller sent meanwhile is read now."""
        self._answered_at, self._drained = self.loop.time(), 0
        self._admission.rests(self)
        super().on_response_complete()
        self._note_head()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn where h11 finds a fault."""
        slug = "head-too-large" if self.conn.status == 431 else "malformed-request"
        detail = self.conn.fault or "this is no HTTP/1.1"
        self.refuse(
            self._admission.refused("malformed", ProblemError(slug, detail, "send HTTP/1.1 as RFC 9112 defines it"))
        )

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, which finds the connection in the request's state."""
        self._admission.asks(self)
        now = self.loop.time()
        self._body, self._answer = self._pace(now), self._pace(now)
        scope["state"]["connection"] = self
        try:
            await self._application(scope, receive, send)
        except asyncio.CancelledError:
            if not self.cycle.disconnected:
                raise

    def _note_head(self) -> None:
        """Note since when a request has a head that is not complete."""
        if self._busy or self.conn.their_state is not h11.IDLE or not self.conn.trailing_data[0]:
            self._head_since = None
        elif self._head_since is None:
            self._head_since = self.loop.time()

    def shutdown(self) -> None:
        """Called by uvicorn when the process ends. Whoever is not answered soon is told to come again.

        What has arrived of a resumable upload is stored, as where a caller goes away.
        """
        super().shutdown()
        if self._busy:
            self.loop.call_later(STOPPING_SECONDS, self._stop)

    def _stop(self) -> None:
        if self._busy:
            what, remedy = "the service is being stopped", "send it again in a while; a resumable upload continues"
            problem = ProblemError("unavailable", what, remedy, headers={"Retry-After": "5"})
            self.refuse(self._admission.refused("stopped", problem))

    # times

    def look(self, now: float) -> None:
        """Close the connection if it has used up its time."""
        if not self.transport.get_write_buffer_size():
            self._answer.wait(now, self._taken())
        elif not self._answer.move(now, self._taken()):
            self._end("slow-reader")
            return
        if self.transport.is_closing():
            return
        if self._busy:
            self._look_at_body(now)
        elif self.conn.their_state is h11.SEND_BODY:
            if now - self._answered_at > LINGER_SECONDS:
                self._end("unread-body")
        elif self._head_since is not None and now - self._head_since > self._bounds.header_seconds:
            if self.conn.trailing_data[0]:
                self._time_out("head", f"the head of the request took more than {self._bounds.header_seconds:g} s")
            else:
                self._end("silent")

    def _taken(self) -> int:
        """Bytes of answers that have arrived at the other end, which are fewer than the system took."""
        if sys.platform != "linux":
            return -self.transport.get_write_buffer_size()
        info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, ACKNOWLEDGED.size)
        return int(ACKNOWLEDGED.unpack(info)[0]) if len(info) == ACKNOWLEDGED.size else 0

    def _look_at_body(self, now: float) -> None:
        reading = not self.flow.read_paused and not self.cycle.waiting_for_100_continue
        if self.conn.their_state is not h11.SEND_BODY or not reading:
            self._body.wait(now, self._received)
        elif not self._body.move(now, self._received):
            seconds, rate = self._bounds.stall_seconds, self._bounds.least_rate
            self._time_out("body", f"the body came slower than {rate:,} bytes a second for {seconds:g} s")

    def _time_out(self, what: str, detail: str) -> None:
        problem = ProblemError("slow-request", detail, "send it again, or in smaller pieces")
        self.refuse(self._admission.refused(f"slow-{what}", problem))

    def _end(self, reason: str) -> None:
        self._admission.metrics.cut.labels(reason).inc()
        self.abort()

    def give_way(self) -> None:
        """Close the connection: it asks for nothing, and somebody else needs its place."""
        self.abort()

    async def delay(self, seconds: float) -> None:
        """Let the request wait; meanwhile the connection may give way to others."""
        self._admission.rests(self)
        await asyncio.sleep(seconds)
        self._admission.asks(self)

    def abort(self) -> None:
        """Cut the connection; whoever answers a request on it sees that the caller is gone."""
        self._forget()
        self.transport.abort()

    def refuse(self, problem: ProblemError) -> None:
        """Answer with a problem, unless an answer has begun, and close the connection."""
        started = self._busy and self.cycle.response_started
        self._forget()
        if started or self.transport.is_closing():
            self.transport.abort()
            return
        id = secrets.token_hex(8)
        extra = {"client": self.host, "status": problem.status, "request": id, "repeats": f"{problem.slug} {self.host}"}
        log.info("refused: %s", problem.detail, extra=extra)
        self.transport.write(raw_answer(problem, id))
        if self.transport.get_write_buffer_size():  # it has not even read what came before
            self.transport.abort()
        else:
            self.transport.close()

    def _forget(self) -> None:
        """End the request on this connection: nothing more is written to it."""
        self._admission.leave(self)
        if self._busy:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.flow.resume_writing()
