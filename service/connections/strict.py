"""What of HTTP/1.1 is refused: every form that two readers of one connection could take for different requests.

h11 reads leniently (RFC 9112 allows that): it unfolds headers, ends lines at a bare LF, lets Transfer-Encoding win over
Content-Length. A proxy in front may read the same bytes otherwise, and then one caller's body is another one's request.
Nobody who means well sends these forms.
"""

import re
from collections.abc import Mapping

import h11

FAULTS: Mapping[re.Pattern[bytes], str] = {
    re.compile(rb"\n[ \t]"): "a header is folded over two lines",
    re.compile(rb"(?<!\r)\n"): "a line does not end in CR LF",
    re.compile(rb"\r(?!\n)"): "there is a CR inside a line",
    re.compile(rb"\0"): "there is a NUL in a header",
}
MOST_HEADERS = 100
MANY_CHUNKS, LEAST_CHUNK = 1000, 64  # after so many chunks: bytes of one on average
LENGTH, CODING = re.compile(rb"(?im)^content-length:(.*)$"), re.compile(rb"(?im)^transfer-encoding:(.*)$")
KEY = re.compile(rb"(?im)^authorization:")


def fault_of(head: bytes, http_version: bytes) -> str | None:
    """What is wrong with the head of a request (its lines, with the empty one), None if nothing is."""
    if not http_version.startswith(b"1."):
        return f"this is HTTP/{http_version.decode('ascii')}"
    for pattern, fault in FAULTS.items():
        if pattern.search(head):
            return fault
    lengths, codings = LENGTH.findall(head), CODING.findall(head)
    if len(lengths) > 1 or any(b"," in length for length in lengths):
        return "Content-Length appears twice"
    if lengths and codings:
        return "Content-Length and Transfer-Encoding exclude each other"
    if len(codings) > 1:
        return "Transfer-Encoding appears twice"
    if len(KEY.findall(head)) > 1:
        return "Authorization appears twice"
    if codings and http_version < b"1.1":
        return "HTTP/1.0 has no Transfer-Encoding"
    return None


def with_path(request: h11.Request) -> h11.Request:
    """The request with a path as its target, also where it has a whole address, as to a proxy (RFC 9112, 3.2.2).

    Raises h11.RemoteProtocolError where the address is that of another host than the header says.
    """
    scheme, separator, rest = request.target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return request
    host, slash, path = rest.partition(b"/")
    if dict(request.headers).get(b"host", b"").lower() != host.lower():
        raise h11.RemoteProtocolError("the target and the header Host name different hosts")
    target, version = (slash or b"/") + path, request.http_version
    return h11.Request(method=request.method, headers=request.headers, target=target, http_version=version)


class StrictConnection(h11.Connection):
    """h11's connection of a server; a request that is read leniently there is an error here. `fault` says which.

    So is one whose reading costs more than its bytes: very many headers, or chunks of a few bytes.
    """

    def __init__(self, most_head_bytes: int):
        super().__init__(h11.SERVER, most_head_bytes)
        self._most_head_bytes = most_head_bytes
        self.fault, self.status = "", 400
        self._chunks = self._chunk_bytes = 0
        self._head = b""

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override]
        """See h11.Connection. The head of an answer goes out with the first bytes of its body, as ASGI has it: each
        write wakes the other end, and costs as much as all the rest of a small answer.
        """
        data = super().send(event)
        if isinstance(event, h11.Response):
            self._head = data or b""
            return b""
        if self._head and data is not None:
            data, self._head = self._head + data, b""
        return data

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """See h11.Connection. Raises h11.RemoteProtocolError."""
        before = self.trailing_data[0] if self.their_state is h11.IDLE else b""
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                head = before[: len(before) - len(self.trailing_data[0])]
                if len(head) > self._most_head_bytes:  # h11 counts heads that are not complete alone
                    raise h11.RemoteProtocolError("the head of the request is too long", error_status_hint=431)
                if len(event.headers) > MOST_HEADERS:
                    raise h11.RemoteProtocolError(f"there are more than {MOST_HEADERS} headers", error_status_hint=431)
                if fault := fault_of(head, event.http_version):
                    raise h11.RemoteProtocolError(fault)
                event = with_path(event)
                self._chunks = self._chunk_bytes = 0
            elif isinstance(event, h11.Data):
                self._chunks += event.chunk_start
                self._chunk_bytes += len(event.data)
                if self._chunks > MANY_CHUNKS and self._chunk_bytes < LEAST_CHUNK * self._chunks:
                    raise h11.RemoteProtocolError(f"the body comes in chunks of less than {LEAST_CHUNK} bytes")
            elif isinstance(event, h11.EndOfMessage) and event.headers:
                raise h11.RemoteProtocolError("there are headers after the body")
        except h11.RemoteProtocolError as error:
            self.fault = str(error).partition(": bytearray")[0]  # what follows are the caller's bytes
            self.status = 431 if error.error_status_hint == 431 else 400
            raise
        return event
