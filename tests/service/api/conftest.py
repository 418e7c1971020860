"""One real server for the tests of the API."""

from collections.abc import Iterator

import httpx
import pytest

from tests.service.running import Server, example


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`graphpass serve` on a free port, with a folder of its own."""
    with Server(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="session")
def ids(server: Server) -> dict[str, str]:
    """The built-in example, as objects of the server's first tenant."""
    return example(server.http)


@pytest.fixture
def http(server: Server) -> httpx.Client:
    """The client of the server's first tenant."""
    return server.http
