"""Fixtures for all tests of the service: servers that one run shares, and settings that use them."""

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.settings import Settings, load_settings
from service.storage import tables
from service.storage.blobs import Blobs
from service.storage.metadata import Metadata, opened
from service.storage.stores import open_blobs
from tests.service.servers import Postgres, S3Server


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove settings of the environment, so that tests see only those that they give."""
    for name in [name for name in os.environ if name.startswith("GRAPHPASS_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL server for the whole run. Tests make databases on it."""
    server = Postgres()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One S3 server for the whole run. Tests make buckets on it."""
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings of an empty database of each kind."""
    if request.param == "sqlite":
        yield load_settings(data_dir=tmp_path / "data")
    else:
        with request.getfixturevalue("postgres").database() as url:
            yield load_settings(data_dir=tmp_path / "data", database_url=url)


@pytest.fixture(scope="session")
def _postgres_metadata(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metadata]:
    with postgres.database() as url:
        settings = load_settings(data_dir=tmp_path_factory.mktemp("data"), database_url=url)
        with opened(settings) as metadata:
            yield metadata


@pytest.fixture(params=["sqlite", "postgresql"])
def metadata(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Metadata]:
    """Metadata in each kind of database, with the tenants `acme` and `other` and nothing else."""
    if request.param == "sqlite":
        with opened(load_settings(data_dir=tmp_path / "data")) as metadata:
            yield _with_tenants(metadata)
    else:
        metadata = request.getfixturevalue("_postgres_metadata")
        with metadata.database.write() as connection:
            names = ", ".join(table.name for table in tables.metadata.sorted_tables)
            connection.execute(sa.text(f"TRUNCATE {names}"))
        yield _with_tenants(metadata)


def _with_tenants(metadata: Metadata) -> Metadata:
    for tenant in ("acme", "other"):
        metadata.keys.create(tenant, tenant.encode().hex().ljust(64, "0"))
    return metadata


class Held:
    """Makes rooms for any number of bytes, which are on no account, and remembers which blobs were held."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.settled = 0

    def room(self) -> "HeldRoom":
        """Make a room."""
        return HeldRoom(self, f"res_{secrets.token_hex(8)}")


@dataclass
class HeldRoom:
    """A service.storage.blobs.Room. wanted: how many bytes there had to be room for, at each call."""

    held: Held
    id: str
    wanted: list[int] = field(default_factory=list)

    def need(self, size: int) -> None:
        """See service.storage.blobs.Room."""
        self.wanted.append(size)

    def hold(self, digest: str, size: int) -> None:
        """See service.storage.blobs.Room."""
        self.held.sizes[digest] = size

    def settle(self) -> None:
        """See service.storage.blobs.Room."""
        self.held.settled += 1


@pytest.fixture
def held() -> Held:
    """The rooms of the writers of `blobs`."""
    return Held()


@pytest.fixture
def s3_settings(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of an empty bucket."""
    for name, value in s3.KEYS.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{s3.bucket()}/some/prefix"
    return load_settings(data_dir=tmp_path / "data", store_url=url, store_endpoint=s3.endpoint)


@pytest.fixture(params=["local", "s3"])
def blob_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of an empty store of each kind."""
    if request.param == "s3":
        return request.getfixturevalue("s3_settings")
    return load_settings(data_dir=tmp_path / "data")


@pytest.fixture
def blobs(blob_settings: Settings) -> Blobs:
    """An empty store of each kind."""
    return open_blobs(blob_settings)


@pytest.fixture
def blob(metadata: Metadata) -> Callable[..., str]:
    """Charge a blob of 100 bytes to a tenant and keep it. Its digest is the text, repeated."""

    def hold(text: str, size: int = 100, tenant: str = "acme") -> str:
        digest = (text.encode().hex() * 64)[:64]
        metadata.ledger.reserve(tenant, 0).hold(digest, size)
        return digest

    return hold
