"""Every step boundary: a service is killed, or finds its disk full, at each moment at which it makes something durable.

    python -m benchmarks.service.boundaries                     SQLite: killed at each moment of each story
    python -m benchmarks.service.boundaries --full              … no room on the disk for 2 s from each moment on
    python -m benchmarks.service.boundaries --postgres          PostgreSQL, an API process and a worker
    python -m benchmarks.service.boundaries conversion sweep    these stories alone

Every promise has to be kept exactly once, and nothing may be left over: tests/service/faulty.py. Prints a line for each
story.
"""

import argparse
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.service.faulty import STORIES, FaultyService
from tests.service.servers import Postgres


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stories", nargs="*", choices=[*STORIES, []], default=[])
    parser.add_argument("--full", action="store_true", help="no room on the disk for 2 s, in place of SIGKILL")
    parser.add_argument("--postgres", action="store_true")
    given = parser.parse_args()
    fault = "full 2" if given.full else "kill"
    with ExitStack() as stack:
        url = ""
        if given.postgres:
            postgres = Postgres()
            stack.callback(postgres.remove)
            url = stack.enter_context(postgres.database())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        service = stack.enter_context(FaultyService(folder, url))
        for story in given.stories or STORIES:
            began, struck = time.monotonic(), 0
            moments = service.moments(story)
            for moment in moments:
                print(f"  {story}: {fault} {moment}", flush=True)
                struck += service.tell(story, f"{fault} {moment}")
            took = time.monotonic() - began
            print(
                f"{story}: {fault} at {len(moments)} moments, {struck} came to pass: all kept, {took:.0f} s", flush=True
            )


if __name__ == "__main__":
    main()
