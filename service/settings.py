"""Every setting of the service, from the environment: GRAPHPASS_ and the field's name in capitals.

The descriptions are the table in docs/service.md, which a test compares with `table()`.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from graphpass.errors import OptionError
from graphpass.options.values import bytes_of, most_threads, number_of, whole_of
from service.errors import SettingsError

PREFIX = "GRAPHPASS_"
OTHER_VARIABLES = frozenset({"GRAPHPASS_CUDA", "GRAPHPASS_KEY", "GRAPHPASS_SERVER"})  # read by the build and by clients
DAY = 24


def _data_home() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "graphpass"


def _folder(path: Path) -> Path:
    return path.expanduser().absolute()


def _database(url: str) -> str:
    if url.startswith("postgres://"):
        url = url.replace("postgres", "postgresql", 1)
    if url and not url.startswith(("postgresql://", "sqlite:///")):
        raise ValueError("is neither postgresql://… nor sqlite:///…")
    return url


def _store(url: str) -> str:
    if url and not url.startswith(("s3://", "file:///")):
        raise ValueError("is neither s3://… nor file:///…")
    return url.rstrip("/")


def _endpoint(url: str) -> str:
    if url and not url.startswith(("http://", "https://")):
        raise ValueError("is neither http://… nor https://…")
    return url.rstrip("/")


def _words(value: Any) -> Any:
    """Words separated by commas; `none` for an empty list."""
    if not isinstance(value, str):
        return value
    return () if value == "none" else tuple(word.strip() for word in value.split(",") if word.strip())


def _networks(addresses: tuple[str, ...]) -> tuple[str, ...]:
    for address in addresses:
        ip_network(address, strict=False)
    return addresses


def _bytes(value: int | str) -> None:
    try:
        bytes_of(value)
    except OptionError as error:
        raise ValueError(error.what) from error


def _written(read: Callable[[Any], Any]) -> BeforeValidator:
    """Only texts that `read` takes, which raises ValueError. They stay as they are, so that errors show them."""

    def unchanged(value: Any) -> Any:
        read(value)
        return value

    return BeforeValidator(unchanged)


MOST, MOST_BYTES = 2**31 - 1, 2**60  # what clocks, limits of processes and databases take
Whole = Annotated[int, _written(whole_of)]
Real = Annotated[float, _written(number_of)]
Count = Annotated[Whole, Field(ge=0, le=MOST)]
Positive = Annotated[Whole, Field(ge=1, le=MOST)]
Hours = Annotated[Real, Field(ge=0, le=100 * 365 * DAY, allow_inf_nan=False)]
Seconds = Annotated[Real, Field(gt=0, le=DAY * 3600, allow_inf_nan=False)]
Size = Annotated[ByteSize, _written(_bytes), Field(ge=0, le=MOST_BYTES)]


@dataclass(frozen=True)
class Quota:
    """What one tenant may have at a time; 0 is no limit."""

    bytes: int = 0
    queued: int = 0
    running: int = 0
    entries: int = 0


class Settings(BaseSettings):
    """The settings. Make them with `load_settings`, whose errors name the variable."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    data_dir: Annotated[Path, AfterValidator(_folder)] = Field(
        default_factory=_data_home, description="folder of the database, the blobs and scratch files"
    )
    database_url: Annotated[str, AfterValidator(_database)] = Field(
        "", repr=False, description="`postgresql://user:password@host/database`; empty: SQLite in the data folder"
    )
    store_url: Annotated[str, AfterValidator(_store)] = Field(
        "", description="`s3://bucket/prefix`, with the usual `AWS_…` variables; empty: a folder in the data folder"
    )
    store_endpoint: Annotated[str, AfterValidator(_endpoint)] = Field(
        "", description="address of an S3-compatible store that is not Amazon's, as `http://minio:9000`"
    )
    host: str = Field("127.0.0.1", min_length=1, description="address that `graphpass serve` listens on")
    port: Whole = Field(8000, ge=0, le=65535, description="port that it listens on; 0: a free one")
    connections: Count = Field(
        0, description="connections at a time; 0: 2000, or fewer if the limit of open files leaves no room for them"
    )
    connections_per_address: Count = Field(
        100, description="connections of one address (IPv6: of one /64), except proxies; 0: any number"
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words), AfterValidator(_networks)] = Field(
        ("127.0.0.1", "::1"),
        description="addresses and networks of reverse proxies, separated by commas; `none`: there are none",
    )
    requests_per_tenant: Count = Field(
        32,
        description="requests of a tenant at a time, without event streams; "
        "at most a quarter of the connections; 0: that many",
    )
    streams_per_key: Count = Field(
        32, description="open event streams with one key; at most a quarter of the connections; 0: that many"
    )
    header_seconds: Seconds = Field(10, description="time for the head of a request, from its first byte")
    idle_seconds: Seconds = Field(75, description="time that a connection may wait for its next request")
    stall_seconds: Seconds = Field(
        20, description="time that a body, or the reading of an answer, may be behind the lowest rate"
    )
    least_bytes_per_second: Count = Field(1024, description="lowest rate of bodies and of reading answers; 0: any")
    queues: Annotated[tuple[Literal["convert", "shards", "gpu"], ...], NoDecode, BeforeValidator(_words)] = Field(
        ("convert", "shards"), description="queues of this process, separated by commas; `none`: only the API"
    )
    executor_id: str = Field(
        "local",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="name of this process, the same after a restart and different from all others",
    )
    workers: Positive = Field(
        2, description="children that run at a time in this process: jobs, shards, descriptions of uploads"
    )
    max_upload_bytes: Size = Field(ByteSize(4 * 2**30), gt=0, description="largest model or dataset")
    upload_ttl_hours: Hours = Field(30 * DAY, description="life of a model or dataset; 0: without end")
    unfinished_ttl_hours: Hours = Field(DAY, gt=0, description="life of an unfinished upload")
    result_ttl_hours: Hours = Field(30 * DAY, description="life of a finished job and its files; 0: without end")
    garbage_grace_minutes: Real = Field(
        60,
        ge=1,
        le=365 * DAY * 60,
        allow_inf_nan=False,
        description="how long bytes stay if the process that was writing them gives no sign of life",
    )
    quota_bytes: Size = Field(ByteSize(20 * 2**30), description="bytes that a tenant may keep; 0: any number")
    quota_entries: Count = Field(
        10_000, description="models, datasets, uploads and jobs that a tenant may keep; 0: any number"
    )
    quota_queued: Count = Field(100, description="jobs of a tenant that may wait; 0: any number")
    quota_running: Count = Field(4, description="jobs of a tenant that may run at a time; 0: any number")
    rate_per_minute: Count = Field(
        600, description="requests per minute with one key, or from one address without a key; 0: any number"
    )
    job_memory_bytes: Size = Field(ByteSize(4 * 2**30), ge=2**28, description="memory of the child that runs a job")
    job_seconds: Positive = Field(3600, description="time that one step of a job may take")
    job_cpu_seconds: Positive = Field(4 * 3600, description="processor time that one step of a job may take")
    describe_seconds: Positive = Field(60, description="time that the description of an upload may take")
    describe_wait_seconds: Positive = Field(
        60, description="time that an upload waits for its description; then 503, and it may be sent again"
    )
    job_threads: Annotated[Whole, Field(ge=0, le=most_threads())] = Field(
        0, description="threads of one job or shard, at most 4 for each core, or 16; 0: one for each core"
    )
    job_deaths: Positive = Field(
        2, description="a job fails after so many deaths of its process in one step, for any reason"
    )
    shard_samples: Positive = Field(
        2048, description="largest number of samples in one shard of an evaluation or calibration"
    )
    max_samples: Positive = Field(10_000_000, description="largest number of samples of a dataset")
    max_shards: Positive = Field(
        1000,
        description="largest number of shards of an evaluation or calibration; beyond it, each shard has more samples",
    )
    max_rows: Positive = Field(128, description="largest number of conversions of a sweep")
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(lambda value: str(value).lower())
    ] = Field("info", description="`debug`, `info`, `warning` or `error`")

    @property
    def quota(self) -> Quota:
        """What one tenant may have."""
        return Quota(int(self.quota_bytes), self.quota_queued, self.quota_running, self.quota_entries)

    def upload_expiry(self, now: datetime) -> datetime | None:
        """When a model or dataset that is made now expires; None for never."""
        return _after(now, self.upload_ttl_hours)

    def unfinished_expiry(self, now: datetime) -> datetime | None:
        """When a resumable upload that begins now expires."""
        return _after(now, self.unfinished_ttl_hours)

    def result_expiry(self, now: datetime) -> datetime | None:
        """When a job that finishes now expires; None for never."""
        return _after(now, self.result_ttl_hours)


def _after(now: datetime, hours: float) -> datetime | None:
    return now + timedelta(hours=hours) if hours else None


def load_settings(**given: Any) -> Settings:
    """Settings from the environment; what is given here (from the command line) goes before it, None does not count.

    Raises SettingsError: one line that names the variables, what is wrong with them and what they mean.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first, *others = error.errors()
    what, remedy = _complaint(first)
    if others:
        names = sorted({_variable(str(each["loc"][0])) for each in others})
        remedy += f"; also wrong: {', '.join(names)}"
    raise SettingsError(what, remedy)


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _complaint(error: Any) -> tuple[str, str]:
    """What is wrong with which variable, and what it means."""
    name = str(error["loc"][0])
    variable = _variable(name)
    field = Settings.model_fields.get(name)
    if field is None:
        return f"{variable} is not a setting", "docs/service.md lists them"
    value = f"={error['input']}" if field.repr else ""
    reason = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    remedy = f"it means: {field.description}" + (f" (default: {default})" if (default := _default(name)) else "")
    if str(error["input"]).startswith("tcp://"):
        remedy += "; Kubernetes sets it for a service of that name unless the pod has enableServiceLinks: false"
    return f"{variable}{value}: {reason[0].lower()}{reason[1:]}", remedy


def unknown_variables(environment: Mapping[str, str]) -> tuple[str, ...]:
    """One warning for each variable that looks like a setting and is none; the service logs them at its start."""
    found = []
    for variable in sorted(set(environment) - OTHER_VARIABLES):
        name = variable.removeprefix(PREFIX).lower()
        if variable.startswith(PREFIX) and name not in Settings.model_fields:
            close = get_close_matches(name, Settings.model_fields, 1)
            found.append(f"{variable} is not a setting" + (f"; did you mean {_variable(close[0])}?" if close else ""))
    return tuple(found)


def table() -> str:
    """The settings as the table of docs/service.md."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = f"`{text}`" if (text := _default(name)) else ""
        rows.append(f"| `{_variable(name)}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def _default(name: str) -> str:
    default = Settings.model_fields[name].default
    if name == "data_dir":
        return "~/.local/share/graphpass"
    if isinstance(default, ByteSize):
        return default.human_readable().replace(".0", "")
    if isinstance(default, tuple):
        return ",".join(default)
    return f"{default:g}" if isinstance(default, float) else str(default)


if __name__ == "__main__":
    print(table(), end="")
