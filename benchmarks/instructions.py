"""Instructions of the CUDA kernels for a number, and the bound that they set: `python -m benchmarks.instructions`.

Read from the machine code that nvcc makes for sm_90, without a GPU: each instruction counts once on the shortest way
through a kernel's loop that stores its result, those of the loop over time-steps T times. A GPU issues one instruction
for 32 numbers in each of its schedulers and cycles, and its bandwidth cannot be more than the bytes of the numbers that
it computes at that rate. Nothing is timed. Needs nvcc, and nvdisasm (in CUDA, or `pip install nvidia-cuda-nvdisasm`).
"""

import contextlib
import heapq
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import table
from benchmarks.timing import arguments
from graphpass.errors import OptionError

SOURCE = Path(__file__).parents[1] / "graphpass" / "runtime" / "native" / "cuda.cu"
SCHEDULERS, CLOCK, WARP = 132 * 4, 1.98e9, 32  # of an H100 and an H200 (SXM), boost clock
BANDWIDTHS = {"H100": 3.35e12, "H200": 4.8e12}
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
NAMES = {"float32": "f", "float16": "NS_4HalfE", "bfloat16": "NS_6BFloatE"}


@dataclass(frozen=True)
class Code:
    """The instructions of one kernel; for each, those that can follow it."""

    lines: tuple[str, ...]
    after: tuple[tuple[int, ...], ...]

    def loops(self) -> dict[int, set[int]]:
        """Loops by their first instruction: the instructions of each."""
        before: dict[int, set[int]] = {}
        for at, following in enumerate(self.after):
            for to in following:
                before.setdefault(to, set()).add(at)
        found: dict[int, set[int]] = {}
        for at, following in enumerate(self.after):
            for head in (to for to in following if to <= at):
                body, waiting = found.setdefault(head, {head}), [at]
                while waiting:
                    if (now := waiting.pop()) not in body:
                        body.add(now)
                        waiting.extend(before.get(now, ()))
        return found

    def places(self, pattern: str, within: set[int]) -> set[int]:
        """The instructions that match."""
        return {at for at in within if re.search(pattern, self.lines[at])}

    def shortest(self, start: int, ends: set[int], within: set[int], through: Sequence[set[int]] = ()) -> int:
        """Instructions of the shortest way from `start` to one of the ends, both counted, that meets each set."""

        def met(seen: int, at: int) -> int:
            return seen | sum(1 << k for k, each in enumerate(through) if at in each)

        whole, queue, done = (1 << len(through)) - 1, [(1, start, met(0, start))], set()
        while queue:
            length, at, seen = heapq.heappop(queue)
            if at in ends and seen == whole and length > 1:
                return length
            if (at, seen) in done:
                continue
            done.add((at, seen))
            for to in self.after[at]:
                if to in within and (to > at or to not in ends):
                    heapq.heappush(queue, (length + 1, to, met(seen, to)))
        raise ValueError("no such way")


def codes(listing: str) -> dict[str, Code]:
    """The kernels of nvdisasm's listing by their mangled names."""
    found = {}
    for section in re.split(r"^\.text\.", listing, flags=re.MULTILINE)[1:]:
        name, _, body = section.partition(":")
        lines: list[str] = []
        labels: dict[str, int] = {}
        for line in body.splitlines():
            if label := re.match(r"(\S+):$", line):
                labels[label[1]] = len(lines)
            elif instruction := re.search(r"/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", line):
                lines.append(instruction[1])
        after = []
        for at, line in enumerate(lines):
            bare = re.sub(r"^@!?U?P\w+\s+", "", line)
            target = re.search(r"`\((\S+)\)", bare) if bare.startswith("BRA") else None
            sure = bare == line and not re.search(r"^BRA\S*\s+!?U?P\d", bare)
            ends = bare.split()[0].split(".")[0] in ("EXIT", "RET") or target is not None
            following = [] if ends and sure else [at + 1] if at + 1 < len(lines) else []
            after.append((*following, *([labels[target[1]]] if target else ())))
        found[name] = Code(tuple(lines), tuple(after))
    return found


def cycle(code: Code, head: int, body: set[int], through: Sequence[set[int]] = ()) -> int:
    """Instructions of one turn of a loop."""
    ends = {at for at in body if head in code.after[at]}
    return code.shortest(head, ends, body, through)


def counted(code: Code, turns: Mapping[str, int], scanned: int = 0) -> tuple[int, int]:
    """Instructions of one turn over packs, and those that a thread needs once.

    turns: of each kind of loop inside, of `INSIDE`.
    scanned: steps of which a thread looks at first whether they fall, in a loop that reads and does nothing else.
    A loop over packs is in no other loop. Where there are several (one for each number of time-steps of the input), the
    shortest counts, which is that of one time-step. Raises ValueError without such a loop.
    """
    loops, found = code.loops(), []
    for head, body in loops.items():
        if any(body < other for other in loops.values()):
            continue
        inside = {k: each for k, each in loops.items() if each < body}
        through, more = [code.places(r"\bSTG", body)], 0
        for kind, number in turns.items():
            wanted, unwanted = INSIDE[kind]
            for k, each in inside.items():
                has = {bool(code.places(rf"\b{name}\b", each)) for name in wanted}
                if has == {True} and not any(code.places(rf"\b{name}\b", each) for name in unwanted):
                    through.append({at for at in each if k in code.after[at]})
                    more += (number - 1) * cycle(code, k, each)
        if len(through) <= len(turns):
            continue
        with contextlib.suppress(ValueError):
            once = code.shortest(0, {head}, set(range(len(code.lines)))) - 1
            looks = [cycle(code, k, each) for k, each in loops.items() if k < head and code.places(r"\bLDG\b", each)]
            found.append((cycle(code, head, body, through) + more, once + scanned * min(looks, default=0)))
    if not found:
        raise ValueError(f"no loop over packs has these loops inside: {', '.join(turns)}")
    return min(found)


def listing(folder: Path) -> str:
    """The machine code of cuda.cu for sm_90. Raises OptionError without nvcc and nvdisasm."""
    nvcc = os.environ.get("CUDACXX") or shutil.which("nvcc")
    nvdisasm = os.environ.get("NVDISASM") or shutil.which("nvdisasm")
    if not nvcc or not nvdisasm:
        raise OptionError("nvcc or nvdisasm is missing", "put them in PATH, or their paths into $CUDACXX and $NVDISASM")
    made = folder / "cuda.cubin"
    flags = ["-std=c++17", "-O3", "-fmad=false", "-arch=sm_90", "-cubin"]
    subprocess.run([nvcc, *flags, "-o", made, SOURCE], check=True)
    return subprocess.run([nvdisasm, "-c", made], check=True, capture_output=True, text=True).stdout


# Loops inside the loop over packs: instructions that they have, and some that they do not have.
INSIDE = {
    "compared": (("LDG", "FSETP", "FADD"), ("STG",)),
    "searched": (("LDG", "FSETP"), ("STG", "FADD")),
    "both": (("LDG", r"HSET2\S*LT"), ("STG",)),
    "rising": (("LDG", r"HSET2\S*GE"), ("STG", r"HSET2\S*LT")),
    "planes": (("STG",), ()),
}
# Where the channels of a pack lie → the number of that kernel, and kFew of cuda_thread.h.
LIES = {"one channel a pack": (0, 8), "channels last": (1, 8), "two channels a pack": (2, 4)}
# Where numbers are compared in pairs (run_levels of cuda.cu): number, width of a pack, packs at a time, most steps.
PAIRED = {
    "one channel a pack": (0, 8, 4, 24),
    "channels last": (1, 4, 8, 24),
    "two channels a pack": (2, 8, 4, 24),
    "one channel a pack, one or two samples": (0, 8, 1, 16),
    "two channels a pack, one or two samples": (2, 8, 1, 8),
}


@dataclass(frozen=True)
class Kernel:
    """A kernel that is counted. steps: 0 where they are of no account. written: values for each one that is read."""

    neuron: str
    result: str
    steps: int = 0
    written: int = 1
    falls: bool = True  # whether every step has a falling threshold

    @property
    def paired(self) -> bool:
        """Whether short numbers are compared in pairs."""
        return self.neuron == "5Every" and self.result == "8ToLevels"

    def turns(self, kind: str) -> dict[str, int]:
        """Turns of the loops inside. kind: of the loop over thresholds."""
        number = self.steps.bit_length() if kind == "searched" else self.steps
        thresholds = {kind: number} if self.neuron == "5Every" else {}
        return thresholds | ({"planes": self.steps} if self.result == "7ToTrain" else {})


KERNELS = {
    "levels": Kernel("4Even", "8ToLevels"),
    "counts": Kernel("4Even", "8ToCounts"),
    **{
        f"levels, a threshold per step, T = {steps}{said}": Kernel("5Every", "8ToLevels", steps, falls=falls)
        for steps in (4, 8, 16)
        for said, falls in (("", True), (", no falling thresholds", False))
    },
    "train, T = 4": Kernel("4Even", "7ToTrain", 4, 4),
    "train, a threshold per step, T = 4": Kernel("5Every", "7ToTrain", 4, 4),
}


def variants(kernel: Kernel, dtype: str) -> Iterator[tuple[str, str, int, str]]:
    """How a kernel runs: layout, part of its mangled name, numbers a thread takes at a time, loop over thresholds."""
    if kernel.paired and BYTES[dtype] == 2:
        for lie, (number, width, packs, most) in PAIRED.items():
            if kernel.steps <= most and (kernel.falls or packs > 1):  # a thread of one pack compares all
                name = f"pairs_kernelI{NAMES[dtype]}LNS1_3LieE{number}ELi{width}ELi{packs}E"
                yield lie, name, width * packs, "both" if kernel.falls else "rising"
    elif kernel.falls:
        width = 16 // BYTES[dtype]
        for lie, (number, few) in LIES.items():
            name = f"neuron_kernelI{NAMES[dtype]}Li{width}ENS1_{kernel.neuron}ILNS1_3LieE{number}E"
            yield (
                lie,
                f"{name}Li{width}EEENS1_{kernel.result}",
                width,
                "compared" if kernel.steps <= few else "searched",
            )


def rows(found: dict[str, Code]) -> Iterator[tuple[object, ...]]:
    for title, kernel in KERNELS.items():
        for dtype, bytes_read in BYTES.items():
            for lie, mangled, numbers, kind in variants(kernel, dtype):
                code = next(code for name, code in found.items() if mangled in name)
                scanned = kernel.steps if kind == "rising" else 0
                turn, once = (each / numbers for each in counted(code, kernel.turns(kind), scanned))
                size = bytes_read + kernel.written * (1 if kernel.result == "8ToCounts" else bytes_read)
                most = size * SCHEDULERS * CLOCK * WARP / turn
                shares = (f"{min(1.0, most / each):.2f}" for each in BANDWIDTHS.values())
                yield title, dtype, lie, f"{turn:.1f}", f"{once:.1f}", size, f"{most / 1e12:.1f}", *shares


def main() -> None:
    arguments(__doc__, ())
    with tempfile.TemporaryDirectory() as folder:
        found = codes(listing(Path(folder)))
    titles = ("kernel", "dtype", "layout", "instructions", "once a thread", "bytes", "bound, TB/s")
    table((*titles, *(f"of {name}'s {each / 1e12:.2f} TB/s" for name, each in BANDWIDTHS.items())), rows(found))


if __name__ == "__main__":
    main()
