"""Siege: for each resource, a hostile tenant at its limit next to a well-behaved tenant, on the real service.

    python -m benchmarks.service.siege [--seconds 30] [--only half-requests …] [--postgres]

The well-behaved tenant uploads a small network, converts it and downloads the result, again and again: first alone,
then during each attack of hostile.py, which runs in a separate process. Prints a table: p99 in milliseconds alone and
during the attack, their ratio, the largest resident memory of the API's process, and the seconds after the end of the
attack until a round takes as long as alone again and the process has closed its files and connections. Exit status 1
where a promise of docs/service.md is broken.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.service.siege.hostile import ATTACKS
from benchmarks.service.siege.measure import HEADING, Neighbour, siege
from tests.service.running import Server
from tests.service.servers import Postgres


@contextmanager
def served(settings: Mapping[str, str], postgres: bool) -> Iterator[Server]:
    """The service with its defaults, rate limit and quotas included."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        given = {"RATE_PER_MINUTE": "", **settings}
        if postgres:
            database = Postgres()
            stack.callback(database.remove)
            given |= {"DATABASE_URL": stack.enter_context(database.database()), "STORE_URL": f"file://{folder}/blobs"}
        yield stack.enter_context(Server(folder, **given))


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30, help="alone, and beside each attack")
    parser.add_argument("--only", action="append", choices=[*ATTACKS], help="this attack; may be repeated")
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL, instead of SQLite")
    given = parser.parse_args()
    broken = {}
    print(HEADING, flush=True)
    for name in given.only or ATTACKS:
        with served({}, given.postgres) as server:
            key = server.new_key("hostile")
            neighbour = Neighbour(server.as_tenant("neighbour"))
            neighbour.rounds(3)
            row = siege(server, name, neighbour, key, given.seconds)
            print(row.text(), flush=True)
            if found := row.broken():
                broken[name] = found
    for name, found in broken.items():
        print(f"{name}: {'; '.join(found)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
