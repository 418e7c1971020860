"""The database of the engine of jobs: a damaged one is named at the start, and nothing is lost without it."""

import os
import signal
import subprocess
from pathlib import Path

from tests.service.running import COMMAND, Server, example, finished, sandboxes


def test_a_damaged_database_of_jobs_is_named_and_jobs_go_on_without_it(tmp_path: Path) -> None:
    with Server(tmp_path, WORKERS="1") as server:
        things = example(server.http)
        body = {"model": things["model"], "calibration": things["calibration"], "options": {"time_steps": 2}}
        jobs = [server.http.post("/v1/conversions", json=body).json()["id"] for _ in range(2)]
        assert server.data.stat().st_mode & 0o777 == 0o700
        for child in sandboxes(server.process.pid if server.process else 0):
            os.kill(child, signal.SIGSTOP)
        server.kill()
        database = server.data / "jobs.db"
        for each in server.data.glob("jobs.db*"):
            each.unlink()
        database.write_bytes(os.urandom(8192))
        started = subprocess.run(
            [*COMMAND, "serve", "--port=0", f"--data={server.data}"], capture_output=True, text=True, check=False
        )
        assert started.returncode == 2
        said = [line for line in started.stderr.splitlines() if not line.startswith("{")]
        assert len(said) == 1 and str(database) in said[0] and "file is not a database; delete it" in said[0]
        database.unlink()  # as it says
        server.up()
        assert [finished(server.http, f"/v1/conversions/{job}")["state"] for job in jobs] == ["succeeded"] * 2
