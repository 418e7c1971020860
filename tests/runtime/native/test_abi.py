"""The hand-written ABI header against onnxruntime's own, from Debian trixie's libonnxruntime-dev."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HEADER = Path(__file__).parents[3] / "graphpass" / "runtime" / "native" / "ort_abi.h"
# Slots whose names differ from the official ones by their spelling alone.
OFFICIAL = {
    "KernelInfoGetAttributeInt64": "KernelInfoGetAttribute_int64",
    "KernelInfoGetAttributeString": "KernelInfoGetAttribute_string",
    "KernelContextGetGpuComputeStream": "KernelContext_GetGPUComputeStream",
    "CustomOpDomainAdd": "CustomOpDomain_Add",
}


def official_name(slot: str) -> str:
    prefix = re.match("KernelContext|ShapeInferContext", slot)
    return OFFICIAL.get(slot) or (f"{prefix[0]}_{slot[prefix.end() :]}" if prefix else slot)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of onnxruntime_c_api.h, downloaded by apt from a source of its own; skipped where that fails."""
    if not all(shutil.which(tool) for tool in ("apt-get", "dpkg-deb", "g++")):
        pytest.skip("needs apt-get, dpkg-deb and g++")
    folder = tmp_path_factory.mktemp("debian")
    (folder / "lists" / "partial").mkdir(parents=True)
    (folder / "cache" / "archives" / "partial").mkdir(parents=True)
    source = folder / "trixie.list"
    source.write_text("deb [trusted=yes] http://deb.debian.org/debian trixie main\n")
    options = {"Etc::sourcelist": source, "Etc::sourceparts": "/dev/null", "State::lists": folder / "lists"}
    options |= {"Cache": folder / "cache"}
    apt = ["apt-get", "-qq", *(part for key, value in options.items() for part in ("-o", f"Dir::{key}={value}"))]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in ("update", "download"):
        wanted = ["libonnxruntime-dev"] if command == "download" else []
        done = subprocess.run([*apt, command, *wanted], cwd=folder, env=environment, capture_output=True, timeout=120)
        if done.returncode:
            pytest.skip(f"Debian trixie cannot be reached: {done.stderr.decode()[-200:]}")
    package = next(folder.glob("libonnxruntime-dev*.deb"))
    subprocess.run(["dpkg-deb", "-x", package, folder / "files"], check=True)
    return next((folder / "files").rglob("onnxruntime_c_api.h")).parent


@pytest.mark.slow
def test_slots_and_layout_are_the_official_ones(official: Path, tmp_path: Path) -> None:
    text = HEADER.read_text("utf-8")
    slots = re.findall(r"^  k(\w+) = (\d+),$", text, re.MULTILINE)
    assert len(slots) == 26
    members = re.findall(r"\(\*(\w+)\)\(", text.split("struct OrtCustomOp {")[1].split("};")[0])
    assert len(members) == 25  # and the version in front of them
    constants = re.findall(r"^  ?(\w+) = (-?\d+),$", text.split("struct OrtApiBase")[0], re.MULTILINE)
    constants += re.findall(r"(\w+) = (-?\d+)[ ,]", text.split("struct OrtApiBase")[0])
    checks = [
        f"static_assert(offsetof(OrtApi, {official_name(slot)}) == {number} * sizeof(void*));" for slot, number in slots
    ]
    checks += [
        f"static_assert(offsetof(OrtCustomOp, {member}) == {place} * sizeof(void*));"
        for place, member in enumerate(members, 1)
    ]
    checks += [f"static_assert({name} == {value});" for name, value in constants]
    program = tmp_path / "abi.cc"
    program.write_text("\n".join(["#include <cstddef>", "#include <onnxruntime_c_api.h>", *checks, "int main() {}"]))
    done = subprocess.run(
        ["g++", "-std=c++17", "-fsyntax-only", "-Wno-invalid-offsetof", f"-I{official}", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
