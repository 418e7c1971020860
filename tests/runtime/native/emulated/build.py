"""Libraries in which the CUDA kernels run without a GPU: nvcc's PTX, translated to C++, under the emulated runtime."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.runtime.native.emulated.translate import translated

HERE = Path(__file__).parent
NATIVE = HERE.parents[3] / "graphpass" / "runtime" / "native"
CALLS, OPERATORS = "libcalls.so", "libgraphpass_ops.so"
EXACT = ["-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
# Launches of few threads, so that each takes many packs.
SMALL_LAUNCHES = {"kAtOnce = 1 << 17;": "kAtOnce = 1 << 6;"}
# In a session on the CPU: the CUDA branch of every operator, under the name of the CPU's provider.
FOR_THE_CPU = {
    '"CUDAExecutionProvider"};': '"CPUExecutionProvider"};',
    "      operators.push_back(std::make_unique<Operator>(kind, type, true));\n": "",
}


def nvcc() -> str | None:
    """The CUDA compiler: $CUDACXX, or the one in PATH."""
    return os.environ.get("CUDACXX") or shutil.which("nvcc")


def replaced(text: str, changes: dict[str, str]) -> str:
    """The text with each of the pieces replaced. Raises ValueError where one is not there."""
    for old, new in changes.items():
        if old not in text:
            raise ValueError(f"there is no {old!r} to replace")
        text = text.replace(old, new)
    return text


def changed(folder: Path, changes: dict[str, str], file: str = "cuda.cu", sources: Path = NATIVE) -> Path:
    """A copy of the kernels' sources in which a file is changed: its folder. Raises ValueError."""
    shutil.copytree(sources, folder, ignore=shutil.ignore_patterns("*.py", "*.cc", "*.txt", "__pycache__"))
    (folder / file).write_text(replaced((folder / file).read_text("utf-8"), changes), "utf-8")
    return folder


def run_all(commands: Iterable[Sequence[str | Path]]) -> None:
    """The commands side by side. Raises RuntimeError with the output of one that fails."""
    running = [subprocess.Popen(list(map(str, c)), stderr=subprocess.STDOUT, stdout=subprocess.PIPE) for c in commands]
    for process in running:
        said = process.communicate()[0].decode()
        if process.returncode:
            raise RuntimeError(f"{process.args}:\n{said[-3000:]}")


def compiled(folder: Path, architectures: Sequence[int], sources: Path = NATIVE) -> Path:
    """cuda.cu as nvcc compiles it: an object that launches, and PTX that runtime.cc runs. The object."""
    kept, made = folder / "kept", folder / "cuda.o"
    kept.mkdir(parents=True, exist_ok=True)
    targets = [f"-gencode=arch=compute_{each},code=compute_{each}" for each in architectures]
    flags = ["-std=c++17", "-O3", "-fmad=false", "-Xcompiler=-fPIC", "--keep", f"--keep-dir={kept}"]
    run_all([[nvcc() or "nvcc", *flags, *targets, "-c", "-o", made, sources / "cuda.cu"]])
    return made


def build(folder: Path, architectures: Sequence[int], sources: Path = NATIVE) -> None:
    """folder/ARCHITECTURE/libcalls.so for ctypes. Raises UnknownInstructionError."""
    kernels = compiled(folder, architectures, sources)
    common = [f"-I{HERE}", f"-I{sources}", "-fPIC", "-fvisibility=hidden", "-std=c++20"]
    commands = [["g++", "-O2", "-Wall", "-Wextra", *common, "-c", "-o", folder / "runtime.o", HERE / "runtime.cc"]]
    for each in architectures:
        place = folder / str(each)
        place.mkdir(exist_ok=True)
        ptx = next((folder / "kept").glob(f"cuda*compute_{each}.ptx"), folder / "kept" / "cuda.ptx")
        (place / "kernels.cc").write_text(translated(ptx.read_text("utf-8")), "utf-8")
        flags = ["-Og", "-w", "-fwrapv", "-fno-strict-aliasing", *EXACT, *common]
        commands.append(["g++", *flags, "-c", "-o", place / "kernels.o", place / "kernels.cc"])
    run_all(commands)
    run_all(
        ["g++", *common, "-shared", "-o", folder / str(each) / CALLS, HERE / "calls.cc", kernels, folder / "runtime.o",
         folder / str(each) / "kernels.o"]
        for each in architectures
    )  # fmt: skip


def build_operators(folder: Path, architecture: int) -> Path:
    """The library of operators whose kernels on the CPU are the emulated ones, from what `build` left. Its path."""
    place = folder / str(architecture)
    (place / "ops.cc").write_text(replaced((NATIVE / "ops.cc").read_text("utf-8"), FOR_THE_CPU), "utf-8")
    flags = ["-std=c++17", "-O1", *EXACT, "-fPIC", "-fvisibility=hidden", "-DGRAPHPASS_CUDA", "-DGRAPHPASS_PLAIN"]
    sources = [place / "ops.cc", NATIVE / "operator_kernel.cc", NATIVE / "cpu.cc"]
    objects = [folder / "cuda.o", folder / "runtime.o", place / "kernels.o"]
    run_all([["g++", *flags, f"-I{NATIVE}", "-shared", "-o", place / OPERATORS, *sources, *objects]])
    return place / OPERATORS
