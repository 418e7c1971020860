"""What a confined process reaches: tasks of hostile_tasks.py try everything."""

import asyncio
import json
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from service.sandbox import landlock, runner, seccomp
from service.sandbox.runner import Failed, Succeeded
from tests.service.sandbox.sandboxed import HOSTILE, Box

ALLOWED_FILES = {"read in", "write out"}
ALLOWED_CALLS = {"own cores", "own cores by id", "own signal", "a thread"}
# What Landlock alone prevents; without it, permissions and seccomp still keep the rest.
needs_landlock = pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")

# A parent that hides Landlock from its child, as kernels before 5.13 and some containers do: `deny` is landlock's first
# call, which the filter answers with ENOSYS.
WITHOUT_LANDLOCK = """
import os, sys
from service.sandbox import seccomp
seccomp.program = lambda architecture, pid: [
    (0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7FFF0000)
]
seccomp.install()
os.execv(sys.argv[1], sys.argv[1:])
"""
# As another user; or, where Python's own files are root's, with root's files but nothing else of root.
AS_NOBODY = """
import os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
os.execv(sys.argv[1], sys.argv[1:])
"""
UNPRIVILEGED = """
import ctypes, os, sys
if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):
    raise OSError(ctypes.get_errno(), "unshare")
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_it_is_the_first_that_the_system_kills(box: Box) -> None:
    """Where memory runs out, children are killed before the service."""
    seen: set[str] = set()

    def look(event: object) -> None:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                if int(parent) == os.getpid() and b"hostile_tasks" in (folder / "cmdline").read_bytes():
                    seen.add((folder / "oom_score_adj").read_text().strip())
            except OSError:
                continue

    box.limits = replace(box.limits, wall_seconds=1.0)
    with mock.patch.object(runner, "COMMAND", HOSTILE):
        asyncio.run(runner.run("spin", {}, box.folder, box.limits, look))
    assert seen == {"1000"}


def lay_out(box: Box) -> Path:
    """A secret beside the box, and a link to one in it."""
    beside = box.folder.parent / "beside"
    beside.write_text("secret")
    box.put("mine", b"mine")
    (box.folder / "in" / "symlink").symlink_to("/etc/passwd")
    return beside


def reached(outcome: Succeeded | Failed) -> set[str]:
    assert isinstance(outcome, Succeeded), outcome
    return {name for name, answer in outcome.result.items() if answer.startswith("reached")}


@needs_landlock
def test_only_its_own_folder_is_within_reach(box: Box) -> None:
    beside = lay_out(box)
    mode = beside.stat().st_mode
    assert reached(box.hostile("files")) == ALLOWED_FILES
    assert (beside.read_text(), beside.stat().st_mode) == ("secret", mode)
    assert (box.folder / "in" / "mine").read_text() == "mine"
    assert (box.folder / "out" / "result").read_text() == "fine"


@needs_landlock
def test_devices_are_within_reach_where_they_were_named(box: Box) -> None:
    assert reached(box.hostile("devices")) == set()
    box.limits = replace(box.limits, devices=("/dev/zero", "/dev/no-such-device"))
    assert reached(box.hostile("devices")) == {"/dev/zero"}


def test_no_call_reaches_the_network_programs_or_other_processes(box: Box) -> None:
    assert reached(box.hostile("calls")) == ALLOWED_CALLS


def test_without_landlock_the_rest_still_holds(box: Box) -> None:
    lay_out(box)
    hidden = (sys.executable, "-c", WITHOUT_LANDLOCK)
    with mock.patch.object(runner, "COMMAND", (*hidden, *runner.COMMAND)):
        assert box.result("check")["landlock"] == 0
    with mock.patch.object(runner, "COMMAND", (*hidden, *HOSTILE)):
        assert reached(box.run("calls")) == ALLOWED_CALLS
        found = reached(box.run("files"))
    assert found.isdisjoint({"truncate beside", "chmod beside", "touch beside", "make a device"})
    assert "read beside" in found  # this is what Landlock is for


@pytest.mark.parametrize("become", [AS_NOBODY, UNPRIVILEGED], ids=["nobody", "unprivileged"])
def test_without_privileges(box: Box, tmp_path: Path, become: str) -> None:
    if os.getuid() != 0:
        pytest.skip("the other tests are without privileges already")
    needed = [folder for prefix in map(Path, (sys.base_prefix, sys.prefix)) for folder in (prefix, *prefix.parents)]
    if become == AS_NOBODY and any(path.stat().st_mode & 0o005 != 0o005 for path in needed):
        pytest.skip("this Python is not for other users")
    lay_out(box)
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        folder.chmod(0o755)
    with mock.patch.object(runner, "COMMAND", (sys.executable, "-c", become, *HOSTILE)):
        assert reached(box.run("calls")) == ALLOWED_CALLS
        assert reached(box.run("files")) <= ALLOWED_FILES | (set() if landlock.abi() else {"read beside"})
    with mock.patch.object(runner, "COMMAND", (sys.executable, "-c", become, *runner.COMMAND)):
        assert box.result("check")["uid"] == 65534


def test_without_landlock_a_child_cannot_read_its_parent(box: Box) -> None:
    """This holds even where both are of one user without privileges, since the parent closes its memory."""
    lay_out(box)
    code = (
        "import asyncio, json, sys\nfrom pathlib import Path\nfrom service.sandbox import landlock, runner\n"
        "landlock.abi = lambda: 0\nrunner.COMMAND = tuple(sys.argv[2:])\n"
        "print(json.dumps(asyncio.run(runner.run('files', {}, Path(sys.argv[1]), runner.Limits())).result))"
    )
    hidden = (sys.executable, "-c", WITHOUT_LANDLOCK)
    command = [sys.executable, "-c", code, str(box.folder), *hidden, *HOSTILE]
    become = [sys.executable, "-c", UNPRIVILEGED] if os.getuid() == 0 else []
    found = subprocess.run([*become, *command], capture_output=True, check=False)
    assert found.returncode == 0, found.stderr
    answers = json.loads(found.stdout)
    assert answers["read beside"].startswith("reached")  # there was no Landlock
    for name in ("parent's memory", "parent's environment"):
        assert answers[name].startswith("denied"), name


def test_threads_come_to_an_end(box: Box) -> None:
    outcome = box.hostile("bomb")
    assert isinstance(outcome, Succeeded)
    assert 8 <= outcome.result["threads"] <= 128  # 8 MiB of stack each, of 1 GiB


def test_the_environment_is_cleared(box: Box) -> None:
    with mock.patch.dict(os.environ, {"AWS_SECRET_ACCESS_KEY": "secret", "OMP_NUM_THREADS": "1"}):
        outcome = box.hostile("environment")
    assert isinstance(outcome, Succeeded)
    known = outcome.result["environment"]
    assert {name for name in known if not name.startswith(runner.INHERITED)} == {
        "LANG",
        "HOME",
        "TMPDIR",
        "ORT_DISABLE_TELEMETRY",
    }
    assert known["OMP_NUM_THREADS"] == "1" and known["TMPDIR"] == str(box.folder / "tmp")


def test_nothing_that_reads_models_is_imported_before_the_process_is_confined(box: Box) -> None:
    outcome = box.hostile("environment")
    assert isinstance(outcome, Succeeded)
    names = {name.split(".")[0] for name in outcome.result["modules"]}
    assert names.isdisjoint({"onnx", "onnxruntime", "numpy", "google", "PIL"})


def test_the_result_says_what_was_applied(box: Box) -> None:
    confined = box.result("check")
    assert confined["landlock"] == landlock.abi() and confined["seccomp"] and confined["no_new_privs"]
    assert confined["uid"] == os.getuid() and not confined["capabilities"]


def test_it_does_not_start_for_a_parent_that_is_gone(box: Box) -> None:
    with mock.patch("os.getpid", return_value=1):
        outcome = box.run("check")
    assert isinstance(outcome, Failed) and outcome.type == "internal" and "cannot be confined" in outcome.what


def test_it_does_not_start_where_it_cannot_be_confined(box: Box) -> None:
    """On a kernel without seccomp nothing runs unconfined."""
    hidden = WITHOUT_LANDLOCK.replace("444", str(seccomp.ARCHITECTURES[platform.machine()].seccomp))
    with mock.patch.object(runner, "COMMAND", (sys.executable, "-c", hidden, *runner.COMMAND)):
        outcome = box.run("check")
    assert isinstance(outcome, Failed) and outcome.type == "internal" and "cannot be confined" in outcome.what
