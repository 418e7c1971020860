"""The CUDA kernels without a GPU: nvcc's PTX, executed on the CPU (tests/runtime/native/emulated)."""

import ctypes
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.runtime.native.emulated import build, mutants
from tests.runtime.native.emulated.translate import UnknownInstructionError, translated

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(
    not build.nvcc() or not shutil.which("g++"),
    reason="needs nvcc (in PATH or $CUDACXX) and g++: see scripts/build-cuda",
)


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("emulated")
    build.build(folder, [90])
    return folder


def checked(library: Path, cases: int) -> str:
    """What the check prints, in a process of its own, since a kernel that leaves its tensor ends it."""
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.runtime.native.emulated.check", library, str(cases)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_kernel_is_the_definition(emulated: Path) -> None:
    said = checked(emulated / "90" / build.CALLS, 100)
    for kernel in ("levels, even", "levels, of every step", "counts", "trains, even", "trains, of every step", "means"):
        for dtype in ("float32", "float16", "bfloat16"):
            assert f"{kernel}, {dtype} " in said
    assert "equal to the definition" in said
    print(said)


def test_errors_have_the_text_of_cuda(emulated: Path) -> None:
    text = ctypes.CDLL(str(emulated / "90" / build.CALLS)).error_text
    text.restype = ctypes.c_char_p
    assert text(9) == b"invalid configuration argument"


@pytest.mark.slow
def test_every_kernel_on_an_older_gpu_and_in_small_launches(tmp_path: Path) -> None:
    sources = build.changed(tmp_path / "small", build.SMALL_LAUNCHES)
    build.build(tmp_path, [75], sources)
    print(checked(tmp_path / "75" / build.CALLS, 200))


@pytest.mark.slow
def test_the_tests_of_the_operators_pass_on_the_cuda_kernels(emulated: Path) -> None:
    """test_native.py, with sessions on the CPU that run the CUDA branch of every operator."""
    library = build.build_operators(emulated, 90)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.runtime.native.emulated.plugin",
        "-p",
        "no:cacheprovider",
    ]
    environment = {**os.environ, "GRAPHPASS_EMULATED": str(library)}
    tests = ["tests/runtime/test_native.py", "-m", "not slow"]
    done = subprocess.run([*command, *tests], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "skipped" not in done.stdout
    print(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_mistakes_in_the_kernels_are_seen(tmp_path: Path) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        names = ["", *mutants.MUTANTS, *mutants.IN_PAIRS]
        found = dict(zip(names, pool.map(lambda k: mutants.verdict(k, tmp_path / (k or "none")), names), strict=True))
    assert found.pop("")[0] == 0
    print("\n".join(f"{name}: {said[:120]}" for name, (_, said) in found.items()))
    assert not [name for name, (status, _) in found.items() if status == 0]


def test_an_unknown_instruction_is_an_error() -> None:
    ptx = ".entry k(\n\t.param .u64 a\n)\n{\n\t.reg .f32 %f<3>;\n\tSIN.approx.f32 %f1, %f2;\n\tret;\n}\n"
    with pytest.raises(UnknownInstructionError, match=r"sin\.approx\.f32 %f1, %f2 in k"):
        translated(ptx.replace("SIN", "sin"))
    with pytest.raises(UnknownInstructionError, match=r"add\.f32"):  # without .rn it may be contracted
        translated(ptx.replace("SIN.approx", "add"))
    with pytest.raises(UnknownInstructionError, match=r"set\.ge\.f16x2\.f16x2"):  # 1.0 where it holds, not a mask
        translated(ptx.replace("SIN.approx.f32", "set.ge.f16x2.f16x2"))
    assert "kernel_0" in translated(ptx.replace("SIN.approx.f32 %f1,", "neg.f32 %f1,"))
