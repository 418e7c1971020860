"""Forms that two readers could take for different requests are no requests here."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.connections.strict import StrictConnection

START = b"POST /v1/models HTTP/1.1\r\nHost: x\r\n"
SMUGGLED = b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"
SHAPES = {  # name → bytes, words of the fault
    "length and coding": (
        START + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        "exclude each other",
    ),
    "coding and length": (
        START + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + SMUGGLED,
        "exclude each other",
    ),
    "two lengths": (START + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", "conflicting"),
    "the same length twice": (START + b"Content-Length: 5\r\ncontent-length: 5\r\n\r\nhello", "twice"),
    "a list of lengths": (START + b"Content-Length: 5, 5\r\n\r\nhello", "twice"),
    "a signed length": (START + b"Content-Length: +5\r\n\r\nhello", "bad Content-Length"),
    "a negative length": (START + b"Content-Length: -5\r\n\r\nhello", "bad Content-Length"),
    "a length in hex": (START + b"Content-Length: 0x5\r\n\r\nhello", "bad Content-Length"),
    "an empty length": (START + b"Content-Length:\r\n\r\nhello", "bad Content-Length"),
    "an absurd length": (START + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nhello", "bad Content-Length"),
    "a folded header": (START + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n", "folded"),
    "a folded length": (START + b"Content-Length:\r\n 5\r\n\r\nhello", "folded"),
    "a fold with a tab": (START + b"X: a\r\n\tTransfer-Encoding: chunked\r\n\r\n", "folded"),
    "a bare LF": (START + b"X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "CR LF"),
    "an end of bare LFs": (b"GET / HTTP/1.1\nHost: x\n\n", "CR LF"),
    "a bare CR": (START + b"X: a\rTransfer-Encoding: chunked\r\n\r\n", "illegal header line"),
    "NUL": (START + b"X: a\0b\r\n\r\n", "illegal header line"),
    "a space before the colon": (START + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "illegal header line"),
    "a header without a name": (START + b": a\r\n\r\n", "illegal header line"),
    "two codings": (START + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "chunked"),
    "the coding twice": (START + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "multiple"),
    "another coding": (START + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "chunked"),
    "a quoted coding": (START + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', "chunked"),
    "chunks in HTTP/1.0": (
        START.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0",
    ),
    "a chunk that is no number": (START + b"Transfer-Encoding: chunked\r\n\r\nz\r\nhello\r\n", "illegal chunk"),
    "a negative chunk": (START + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n", "illegal chunk"),
    "a chunk in 0x": (START + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", "illegal chunk"),
    "a chunk of 10²⁵": (START + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 21 + b"\r\nhello", "illegal chunk"),
    "a chunk longer than it says": (START + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n", "footer"),
    "a line of a chunk that ends in LF": (
        START + b"Transfer-Encoding: chunked\r\n\r\n5;\nx\r\nhello\r\n0\r\n\r\n",
        "illegal chunk",
    ),
    "headers after the body": (
        START + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n" + SMUGGLED,
        "after the body",
    ),
    "another host": (b"GET http://y/admin HTTP/1.1\r\nHost: x\r\n\r\n", "different hosts"),
    "an address without a host": (b"GET http:///admin HTTP/1.1\r\nHost: x\r\n\r\n", "different hosts"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", "Host"),
    "two keys": (START + b"Authorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n", "twice"),
    "two hosts": (START + b"Host: y\r\n\r\n", "Host"),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "illegal request line"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2.0"),
    "HTTP/0.9": (b"GET / HTTP/0.9\r\n\r\n", "HTTP/0.9"),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", "illegal request line"),
}


def read(connection: StrictConnection, data: bytes) -> list[object]:
    """Read these bytes and return the events. Raises h11.RemoteProtocolError."""
    connection.receive_data(data)
    found: list[object] = []
    while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
        found.append(event)
    return found


def read_bytewise(connection: StrictConnection, data: bytes) -> None:
    """Read these bytes one by one and return the events."""
    for byte in data:
        read(connection, bytes([byte]))


@pytest.mark.parametrize("name", SHAPES)
def test_it_is_refused(name: str) -> None:
    data, words = SHAPES[name]
    connection = StrictConnection(2**14)
    with pytest.raises(h11.RemoteProtocolError):
        read(connection, data)
    assert words in connection.fault and connection.status == 400


@pytest.mark.parametrize("name", SHAPES)
def test_it_is_refused_however_it_is_cut(name: str) -> None:
    data, _ = SHAPES[name]
    with pytest.raises(h11.RemoteProtocolError):
        read_bytewise(StrictConnection(2**14), data)


GOOD = {
    "no body": b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/1.0": b"GET /livez HTTP/1.0\r\n\r\n",
    "a length": START + b"Content-Length: 5\r\n\r\nhello",
    "chunks": START + b"Transfer-Encoding: Chunked\r\n\r\n5;ext=1\r\nhel\nl\r\n0\r\n\r\n",
    "folds and zeros in the body": START + b"Content-Length: 9\r\n\r\na\n b\r\0\n\nc",
    "words that look like headers": START + b"X: content-length: 5, 6\r\nY-Content-Length: 1, 2\r\n\r\n",
}


@pytest.mark.parametrize("name", GOOD)
def test_plain_requests_are_read(name: str) -> None:
    events = read(StrictConnection(2**14), GOOD[name])
    assert isinstance(events[0], h11.Request) and isinstance(events[-1], h11.EndOfMessage)


@given(st.lists(st.sampled_from(sorted(GOOD)), min_size=2, max_size=4), st.integers(1, 40))
def test_one_after_the_other_on_one_connection(names: list[str], piece: int) -> None:
    names = [name for name in names if name != "HTTP/1.0"]
    data, connection, requests = b"".join(GOOD[name] for name in names), StrictConnection(2**14), 0
    for start in range(0, len(data), piece):
        connection.receive_data(data[start : start + piece])
        while (event := connection.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Request):
                requests += 1
            if event is h11.PAUSED or isinstance(event, h11.EndOfMessage):
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
    assert requests == len(names)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://x/v1/models?limit=1", b"/v1/models?limit=1"),
        (b"HTTPS://X/a://b", b"/a://b"),
        (b"http://x", b"/"),
        (b"/http://y/a", b"/http://y/a"),
        (b"*", b"*"),
    ],
)
def test_whole_addresses_are_paths_of_their_host(target: bytes, path: bytes) -> None:
    connection = StrictConnection(2**14)
    connection.receive_data(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    request = connection.next_event()
    assert isinstance(request, h11.Request) and request.target == path


def test_a_head_has_a_limit() -> None:
    connection = StrictConnection(2**14)
    connection.receive_data(START + b"X: " + b"a" * 2**14)
    with pytest.raises(h11.RemoteProtocolError):
        connection.next_event()
    assert connection.status == 431


@pytest.mark.parametrize("pieces", [1, 2, 1000])
def test_a_complete_head_has_the_same_limit_in_any_pieces(pieces: int) -> None:
    for size, refused in ((2**14, False), (2**14 + 1, True)):
        connection, start = StrictConnection(2**14), START + b"X: "
        data = start + b"a" * (size - len(start) - 4) + b"\r\n\r\n"
        step = -(-size // pieces)
        try:
            events = [each for at in range(0, size, step) for each in read(connection, data[at : at + step])]
        except h11.RemoteProtocolError:
            assert refused and connection.status == 431
        else:
            assert not refused and isinstance(events[0], h11.Request)


def test_a_head_has_so_many_headers() -> None:
    for number, status in ((99, 400), (100, 431)):
        connection = StrictConnection(2**14)
        data = START + b"".join(b"X-%d: a\r\n" % n for n in range(number)) + b"\r\n"
        if status == 400:
            assert isinstance(read(connection, data)[0], h11.Request)
        else:
            with pytest.raises(h11.RemoteProtocolError):
                read(connection, data)
            assert connection.status == status


@pytest.mark.parametrize(("size", "refused"), [(1, True), (63, True), (64, False), (1000, False)])
def test_chunks_of_a_few_bytes_are_not_read_for_long(size: int, refused: bool) -> None:
    connection = StrictConnection(2**14)
    read(connection, START + b"Transfer-Encoding: chunked\r\n\r\n")
    chunk = b"%x\r\n" % size + bytes(size) + b"\r\n"
    read(connection, chunk * 1000)  # some may be small
    if refused:
        with pytest.raises(h11.RemoteProtocolError):
            read(connection, chunk)
    else:
        read(connection, chunk * 1000)
    assert ("chunks" in connection.fault) == refused
