"""The table of system calls, against the kernel's own headers, and the filter on a little machine of BPF."""

import re
from pathlib import Path

import pytest

from service.sandbox.seccomp import ARCHITECTURES, CONDITIONAL, DENIED, FIRST_UNKNOWN, program

HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),  # arm64 has the generic table
}
ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
PID = 4711


@pytest.mark.parametrize("name", HEADERS)
def test_numbers_are_those_of_the_kernel(name: str) -> None:
    header = next((path for path in map(Path, HEADERS[name]) if path.exists()), None)
    if header is None:
        pytest.skip("the kernel's headers (linux-libc-dev) are not installed")
    found = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)\s*$", header.read_text(), re.MULTILINE)
    numbers = {call: int(number) for call, number in found}
    column = ARCHITECTURES[name].column
    for call, known in {**DENIED, **CONDITIONAL}.items():
        if call in numbers:
            assert known[column] == numbers[call], call
        else:  # newer than the header, or not of this architecture
            assert known[column] is None or known[column] >= 447, call


def answer(name: str, number: int, *arguments: int, arch: int | None = None) -> int:
    """The action that the filter gives for a call, by running its program."""
    architecture = ARCHITECTURES[name]
    data = [number, architecture.audit if arch is None else arch, 0, 0]
    for value in (*arguments, *[0] * (6 - len(arguments))):
        data += [value & 0xFFFFFFFF, value >> 32]
    rules, place, held = program(architecture, PID), 0, 0
    while True:
        code, then, otherwise, operand = rules[place]
        place += 1
        match code:
            case 0x20:
                held = data[operand // 4]
            case 0x54:
                held &= operand
            case 0x06:
                return operand
            case _:
                met = {0x15: held == operand, 0x35: held >= operand, 0x45: bool(held & operand)}[code]
                place += then if met else otherwise


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_the_filter_says(name: str) -> None:
    column = ARCHITECTURES[name].column
    number = {call: known[column] for call, known in {**DENIED, **CONDITIONAL}.items()}
    for call, known in DENIED.items():
        if (denied := known[column]) is not None:
            assert answer(name, denied) == EPERM, call
    allowed = set(range(FIRST_UNKNOWN)) - {each for each in number.values() if each is not None}
    assert {answer(name, each) for each in allowed} == {ALLOW}
    assert answer(name, FIRST_UNKNOWN) == answer(name, 0x40000000) == answer(name, 0xFFFFFFFF) == ENOSYS
    assert answer(name, 0, arch=0x40000003) == KILL  # 32-bit calls
    assert answer(name, number["clone"], 0x3D0F00) == ALLOW  # what a thread is made with
    assert answer(name, number["clone"], 0x1200011) == EPERM  # fork
    assert answer(name, number["clone3"]) == ENOSYS
    for call in ("kill", "tgkill"):
        assert answer(name, number[call], PID) == ALLOW
        for other in (PID + 1, 0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF):
            assert answer(name, number[call], other) == EPERM
    for own in (0, PID):
        assert answer(name, number["sched_setaffinity"], own, 8, 1) == ALLOW
    assert answer(name, number["sched_setaffinity"], PID + 1, 8, 1) == EPERM
    for command in (8, 10, 15):  # F_SETOWN, F_SETSIG, F_SETOWN_EX
        assert answer(name, number["fcntl"], 1, command, PID) == EPERM
    assert {answer(name, number["fcntl"], 1, command) for command in (0, 1, 2, 3, 4, 5, 6, 1030)} == {ALLOW}
    assert answer(name, number["mmap"], 0, 1, 3, 0x22) == ALLOW  # private, anonymous
    assert answer(name, number["mmap"], 0, 1, 3, 0x01) == ALLOW  # a file
    assert answer(name, number["mmap"], 0, 1, 3, 0x21) == EPERM
    assert answer(name, number["prctl"], 15) == ALLOW  # a thread's name
    assert answer(name, number["prctl"], 1) == EPERM
    assert answer(name, number["prlimit64"], 0, 7, 0, 1) == ALLOW  # reading
    assert answer(name, number["prlimit64"], 0, 7, 1 << 32) == EPERM
    assert answer(name, number["prlimit64"], 0, 7, 1) == EPERM


def test_no_call_is_there_twice() -> None:
    for architecture in ARCHITECTURES.values():
        numbers = [known[architecture.column] for known in [*DENIED.values(), *CONDITIONAL.values()]]
        known = [number for number in numbers if number is not None]
        assert len(known) == len(set(known)) and max(known) < FIRST_UNKNOWN
