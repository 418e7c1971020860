"""How many connections there may be: what the settings say, and what the limit of open files leaves room for."""

import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.connections.bounds import (
    DERIVED,
    FEWEST,
    FILES_A_CONNECTION,
    RESERVE,
    RESERVE_A_WORKER,
    bounds_of,
    caller,
    is_trusted,
)
from service.errors import SettingsError
from service.settings import load_settings


@given(files=st.integers(64, 10**6), asked=st.integers(0, 10**5), workers=st.integers(1, 64))
def test_connections_leave_the_reserve(files: int, asked: int, workers: int) -> None:
    reserve = RESERVE + RESERVE_A_WORKER * workers
    room = max(FEWEST, (files - reserve) // FILES_A_CONNECTION)
    settings = load_settings(connections=asked, workers=workers)
    if asked > room:
        with pytest.raises(SettingsError, match=rf"GRAPHPASS_CONNECTIONS={asked}: .*; raise the limit to .*ulimit -n"):
            bounds_of(settings, files)
        return
    bounds = bounds_of(settings, files)
    assert bounds.connections == (asked or min(room, DERIVED))
    for share in (bounds.requests_per_tenant, bounds.streams_per_key):
        assert 1 <= share <= max(1, bounds.connections // 4)  # no tenant takes all


def test_the_settings_are_taken() -> None:
    bounds = bounds_of(load_settings(connections=100, requests_per_tenant=7, streams_per_key=5), 10**5)
    assert (bounds.connections, bounds.requests_per_tenant, bounds.streams_per_key) == (100, 7, 5)
    assert bounds_of(load_settings(requests_per_tenant=0), 10**5).requests_per_tenant == 500


def test_the_soft_limit_of_files_is_raised_to_the_hard_one() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    source = f"""
import resource
from service.connections.bounds import raise_limit_of_files
resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))
print(raise_limit_of_files(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
print(raise_limit_of_files(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    most = min(hard, 2**16) if hard != resource.RLIM_INFINITY else 2**16
    assert done.stdout.split() == [str(most), str(most), "300", "300"]


@pytest.mark.parametrize(
    ("host", "who"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_who_is_counted(host: str, who: str) -> None:
    assert caller(host) == who


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("", False),
        ("testclient", False),
    ],
)
def test_which_addresses_are_proxies(host: str, trusted: bool) -> None:
    bounds = bounds_of(load_settings(trusted_proxies="127.0.0.1,::1,10.9.9.9/8"), 1024)
    assert is_trusted(host, bounds.trusted) == trusted
    assert not is_trusted(host, bounds_of(load_settings(trusted_proxies="none"), 1024).trusted)
