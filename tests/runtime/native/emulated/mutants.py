"""Mistakes in the kernels that the check has to see, each in a copy of the sources: name → file, what is replaced."""

import subprocess
import sys
from pathlib import Path

from tests.runtime.native.emulated.build import CALLS, build, changed

CUDA, THREAD, NEURON = "cuda.cu", "cuda_thread.h", "neuron.h"
# float32 alone: a third of the kernels, for speed.
FLOAT = {"using T = Half; ": "using T = float; ", "using T = BFloat; ": "using T = float; "}
CASES = 80
MUTANTS: dict[str, tuple[str, dict[str, str]]] = {
    "channels change on the way": (CUDA, {"/ plane * plane);": ");", "kAtOnce = 1 << 17;": "kAtOnce = 100;"}),
    "no check of alignment": (CUDA, {"plane % kPack || !aligned(x, 16) || !aligned(y, 16)": "plane % kPack"}),
    "rows that are not aligned": (THREAD, {"p.stride == 1 && aligned(p.values, 16)": "p.stride == 1"}),
    "a pack in one channel": (THREAD, {"(j < left ? values[0] : values[1 % kSets])": "values[0]"}),
    "no first channel after the last": (THREAD, {"first + 1 < share.channels ? first + 1 : 0": "first + 1"}),
    "a step is not searched": (THREAD, {"if (next > steps) continue;": "if (next >= steps) continue;"}),
    "a quotient of reciprocals": (NEURON, {"floorf(fmaf(fmaf(-k, threshold, a), inverse, k))": "floorf(a * inverse)"}),
    "every threshold is ordinary": (NEURON, {"threshold > 0x1p-100f && threshold < 0x1p100f": "true"}),
    "NaN is 0": (NEURON, {'asm("max.NaN.f32': 'asm("max.f32'}),
}  # fmt: skip


def verdict(name: str, folder: Path) -> tuple[int, str]:
    """The check's exit status and last line for a mutant, "" for the sources as they are, of float32."""
    file, changes = MUTANTS[name] if name else (CUDA, {})
    sources = changed(folder / "float", FLOAT)
    build(folder, [90], changed(folder / "mutant", changes, file, sources))
    command = [
        sys.executable,
        "-m",
        "tests.runtime.native.emulated.check",
        folder / "90" / CALLS,
        str(CASES),
        "float32",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).strip().splitlines()
    return done.returncode, said[-1] if said else f"ended by signal {-done.returncode}"
