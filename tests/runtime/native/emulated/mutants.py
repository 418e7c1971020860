"""Mistakes in the kernels that the check has to see, each in a copy of the sources: name → file, what is replaced."""

import subprocess
import sys
from pathlib import Path

from tests.runtime.native.emulated.build import CALLS, build, changed

CUDA, THREAD, NEURON = "cuda.cu", "cuda_thread.h", "neuron.h"
PAIRS, THREAD_PAIRS = "pairs.h", "cuda_pairs.h"
# One type alone: a third of the kernels, for speed.
TYPES = {"float32": "float", "float16": "Half"}
CASES = 80
MUTANTS: dict[str, tuple[str, dict[str, str]]] = {
    "channels change on the way": (CUDA, {"/ plane * plane + plane": "+ 1", "kAtOnce = 1 << 17;": "kAtOnce = 100;"}),
    "no check of alignment": (CUDA, {"plane % width || !aligned(x, 16) || !aligned(y, 16)": "plane % width"}),
    "rows that are not aligned": (THREAD, {"p.stride == 1 && aligned(p.values, 16)": "p.stride == 1"}),
    "a pack in one channel": (THREAD, {"(j < left ? values[0] : values[1 % kSets])": "values[0]"}),
    "no first channel after the last": (THREAD, {"first + 1 < share.channels ? first + 1 : 0": "first + 1"}),
    "a step is not searched": (THREAD, {"if (next > steps) continue;": "if (next >= steps) continue;"}),
    "a quotient of reciprocals": (NEURON, {"floorf(fmaf(fmaf(-k, threshold, a), inverse, k))": "floorf(a * inverse)"}),
    "every threshold is ordinary": (NEURON, {"threshold > 0x1p-100f && threshold < 0x1p100f": "true"}),
    "NaN is 0": (NEURON, {'asm("max.NaN.f32': 'asm("max.f32'}),
}  # fmt: skip
# Of numbers that are compared in pairs: in float16, the others in float32.
IN_PAIRS: dict[str, tuple[str, dict[str, str]]] = {
    "thresholds to the nearest": (PAIRS, {"__float2half_ru(value)": "__float2half_rn(value)"}),
    "a carry between counts": (PAIRS, {"sum * 0x10001u": "sum"}),
    "NaN is a count": (THREAD_PAIRS, {" | unordered(in, in)": ""}),
    "no threshold falls": (THREAD_PAIRS, {"both > 0 && !falls(both - 1)": "both > 0"}),
    "both of a pair in one channel": (THREAD_PAIRS, {"(bytes, 2 * q + 1) << 8": "(bytes, 2 * q) << 8"}),
    "packs that are not there": (THREAD_PAIRS, {"if (p == 0 || p < left) *y = out;": "*y = out;"}),
    "a last pack left out": (THREAD, {"share.turns + (k < share.rest ? 1 : 0)": "share.turns"}),
}  # fmt: skip


def of_one_type(dtype: str) -> dict[str, str]:
    """What makes cuda.cu work on this type, whichever it is asked for."""
    return {f"using T = {name};": f"using T = {TYPES[dtype]};" for name in ("float", "Half", "BFloat")}


def verdict(name: str, folder: Path) -> tuple[int, str]:
    """The check's exit status and last line for a mutant, "" for the sources as they are, of float32."""
    file, changes = {"": (CUDA, {}), **MUTANTS, **IN_PAIRS}[name]
    dtype = "float16" if name in IN_PAIRS else "float32"
    sources = changed(folder / "one", of_one_type(dtype))
    build(folder, [90], changed(folder / "mutant", changes, file, sources))
    command = [sys.executable, "-m", "tests.runtime.native.emulated.check", folder / "90" / CALLS, str(CASES), dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).strip().splitlines()
    return done.returncode, said[-1] if said else f"ended by signal {-done.returncode}"
