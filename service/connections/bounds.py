"""Bounds of connections in number and time: those of the settings, and what the limit of open files leaves room for.

GRAPHPASS_CONNECTIONS ≤ (open files - reserve) / 2       each may hold a file besides itself
reserve = 96 + 16 · GRAPHPASS_WORKERS                    database, store, children, listening
"""

import ipaddress
import resource
from dataclasses import dataclass
from functools import lru_cache

from service.errors import SettingsError
from service.settings import Settings

FILES = 2**16  # open files that are asked for: a limit of 10⁹, as in some containers, makes no sense
RESERVE, RESERVE_A_WORKER = 96, 16
FILES_A_CONNECTION = 2  # itself, and the file that it is read into or answered from
DERIVED = 2000  # most connections where the settings leave it open: some 30 MiB if each sends half a request
FEWEST = 16
ADDRESSES = 4096  # that are remembered, since reading one takes as long as refusing a connection
SHARE = 4  # of all connections, the part that one tenant's requests, or one key's event streams, may take

AddressRange = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Bounds:
    """What callers may hold, whoever they are, and for how long. Numbers: 0 is no bound; rates are bytes a second."""

    connections: int
    per_address: int
    requests_per_tenant: int
    streams_per_key: int
    header_seconds: float
    idle_seconds: float
    stall_seconds: float
    least_rate: int
    trusted: tuple[AddressRange, ...]


def bounds_of(settings: Settings, files: int) -> Bounds:
    """The bounds in a process that may have this many open files. Raises SettingsError where they do not suffice."""
    reserve = RESERVE + RESERVE_A_WORKER * settings.workers
    room = max(FEWEST, (files - reserve) // FILES_A_CONNECTION)
    if settings.connections > room:
        raise SettingsError(
            f"GRAPHPASS_CONNECTIONS={settings.connections}: {files:,} open files are enough for {room:,}",
            f"raise the limit to {settings.connections * FILES_A_CONNECTION + reserve:,} (ulimit -n), or take fewer",
        )
    connections = settings.connections or min(room, DERIVED)
    share = max(1, connections // SHARE)
    return Bounds(
        connections=connections,
        per_address=settings.connections_per_address,
        requests_per_tenant=min(settings.requests_per_tenant or share, share),
        streams_per_key=min(settings.streams_per_key or share, share),
        header_seconds=settings.header_seconds,
        idle_seconds=settings.idle_seconds,
        stall_seconds=settings.stall_seconds,
        least_rate=settings.least_bytes_per_second,
        trusted=tuple(ipaddress.ip_network(each, strict=False) for each in settings.trusted_proxies),
    )


def raise_limit_of_files() -> int:
    """Raise the soft limit of open files to the hard one, up to FILES. Returns how many there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return FILES if soft == resource.RLIM_INFINITY else soft


@lru_cache(ADDRESSES)
def caller(host: str) -> str:
    """The caller that an address counts for: itself, or for IPv6 its /64, of which one caller has all addresses."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


@lru_cache(ADDRESSES)
def is_trusted(host: str, trusted: tuple[AddressRange, ...]) -> bool:
    """Whether an address is that of a trusted proxy."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in trusted)
