"""Every CUDA kernel, emulated, against the numpy definition, bit for bit: `check.py LIBRARY [CASES] [DTYPE]`.

Tensors lie at the beginning or the end of device memory, so that a kernel that leaves them crashes. Outputs must be
written exactly once, and inputs stay. Prints what was run; ends with status 1 at the first number that differs.
"""

import ctypes
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from graphpass.maths.neuron import CODINGS, Firing, Neuron, ThresholdNeuron, levels_of, spike_train, step_weights

Array = NDArray[Any]
TYPES = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
SIZES = (1, 1, 2, 3, 4, 5, 7, 8, 12, 16, 24, 33, 49, 64)
SPECIAL = np.float32([np.nan, np.inf, -np.inf, 0, -0.0, 1e30, -1e30, 3.4e38, 1e-45, -1e-45, 65504, 65520, 6e-8, 1e-40])
POISON = 0xA5  # bytes of an output before it is written
TO_DEVICE, TO_HOST = 1, 2


class DifferentError(Exception):
    """A kernel gave other bits than the definition, or did not write each byte once."""


class Parameter(ctypes.Structure):
    _fields_ = [("values", ctypes.c_void_p), ("stride", ctypes.c_int64)]


class Thresholds(ctypes.Structure):
    _fields_ = [("rising", ctypes.c_void_p), ("falling", ctypes.c_void_p)] + [
        (name, ctypes.c_int64) for name in ("steps", "pitch", "stride")
    ]


class Neurons(ctypes.Structure):
    _fields_ = [(name, Parameter) for name in ("threshold", "shift", "amplitude", "offset")] + [
        ("largest", ctypes.c_float),
        ("each", Thresholds),
    ]


class Layout(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("outer", "channels", "inner")]


class Steps(ctypes.Structure):
    _fields_ = [("input", ctypes.c_int), ("output", ctypes.c_int), ("phase", ctypes.c_bool)]


@dataclass
class Device:
    """The emulated device: its library, the arrays on it, and what was run."""

    library: ctypes.CDLL
    generator: np.random.Generator
    at_end: bool = False
    types: tuple[np.dtype[Any], ...] = TYPES
    held: list[ctypes.c_void_p] = field(default_factory=list)
    launches: Counter[str] = field(default_factory=Counter)
    numbers: Counter[str] = field(default_factory=Counter)

    def place(self, array: Array) -> int:
        """The address of a copy at the beginning or the end of new memory, or a few elements away."""
        pointer, away = ctypes.c_void_p(), int(self.generator.choice([0] * 9 + [1, 2, 4])) * array.itemsize
        room = (max(array.nbytes + away, 1) + 4095) // 4096 * 4096
        if self.library.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(room)):
            raise MemoryError
        self.held.append(pointer)
        base = pointer.value or 0
        address = base + (room - array.nbytes - away if self.at_end else away)
        self.copy(address, np.ascontiguousarray(array).ctypes.data, array.nbytes, TO_DEVICE)
        return address

    def copy(self, to: int, source: int, size: int, kind: int) -> None:
        if self.library.cudaMemcpy(ctypes.c_void_p(to), ctypes.c_void_p(source), ctypes.c_size_t(size), kind):
            raise DifferentError("a copy failed")

    def clear(self) -> None:
        for pointer in self.held:
            self.library.cudaFree(pointer)
        self.held.clear()

    def count(self, what: str) -> int:
        self.library.emulated_count.restype = ctypes.c_ulonglong
        return int(self.library.emulated_count(what.encode()))

    def run(
        self, what: str, x: Array, expected: Array, call: Callable[[ctypes.c_void_p, ctypes.c_void_p], int]
    ) -> None:
        """call(x, y) has to make y the expected array. Raises DifferentError."""
        y = np.full(expected.nbytes, POISON, np.uint8).view(expected.dtype).reshape(expected.shape)
        source, target = self.place(x), self.place(y)
        self.library.emulated_reset()
        if status := call(ctypes.c_void_p(source), ctypes.c_void_p(target)):
            raise DifferentError(f"{what}: status {status}")
        written, after = self.count("bytes written"), np.empty_like(x)
        self.launches[what] += self.count("launches")
        self.numbers[what] += expected.size
        self.copy(y.ctypes.data, target, y.nbytes, TO_HOST)
        self.copy(after.ctypes.data, source, x.nbytes, TO_HOST)
        if (y.size and written != y.nbytes) or after.tobytes() != x.tobytes():
            raise DifferentError(f"{what} of {x.shape}: {written} of {y.nbytes} bytes written, or x changed")
        same = bits(y) == bits(expected)
        if not same.all():
            at = tuple(np.argwhere(~same)[0])
            raise DifferentError(f"{what} of {x.shape} at {at}: {y[at]}, not {expected[at]}")


def bits(array: Array) -> Array:
    """The bits; every NaN has the same, and so has every zero."""
    view = array.view({1: np.uint8, 2: np.uint16, 4: np.uint32}[array.itemsize]).copy()
    if array.dtype != np.uint8:
        value = array.astype(np.float32)
        view[np.isnan(value)], view[value == 0] = 0x7FFF, 0
    return view


def even_neuron(generator: np.random.Generator, channels: int, levels: int) -> Neuron:
    """Neurons of ordinary thresholds, or of any from the smallest to the largest; [channels, 1]."""
    scale = 10.0 ** generator.uniform(-44, 36) if generator.random() < 0.3 else 1 / levels
    with np.errstate(all="ignore"):
        theta = np.maximum(generator.uniform(0.5, 3, channels) * scale, 1.5e-45).astype(np.float32)
        if generator.random() < 0.3:  # the last digits all ones or nearly all zeros
            theta = (
                (theta.view(np.uint32) & 0xFF800000 | generator.choice([0, 1, 2, 0x7FFFFE, 0x7FFFFF], channels))
                .astype(np.uint32)
                .view(np.float32)
            )
            theta = np.maximum(theta, np.float32(1.5e-45))
        shift = (generator.normal(size=channels) * theta * generator.integers(0, 2)).astype(np.float32)
        amplitude, offset = (generator.normal(size=(2, channels)) * 10.0 ** generator.uniform(-10, 10)).astype(
            np.float32
        )
    parts = [theta, shift, amplitude, offset]
    if generator.random() < 0.4:
        for part in parts:
            if generator.random() < 0.4:
                part[:] = part[:1]
    return Neuron(*(part[:, None] for part in parts), levels)


def threshold_neuron(generator: np.random.Generator, even: Neuron) -> ThresholdNeuron:
    """Neurons whose steps have thresholds of their own; some fall, and every x or none reaches some.

    A few lie beyond float16, between two of its numbers, or between 0 and the smallest.
    """
    scale = 10.0 ** generator.uniform(-9, 7) if generator.random() < 0.3 else 1.0
    rising = np.sort(generator.normal(0.5, 1.5, (even.levels - 1, *even.shift.shape)) * scale, axis=0)
    falling = rising[:1] - np.cumsum(generator.uniform(0, scale, rising.shape), axis=0)
    rising, falling = rising.astype(np.float32), falling.astype(np.float32)
    if generator.random() < 0.3:
        with np.errstate(over="ignore"):
            rising, falling = (each.astype(np.float16).astype(np.float32) for each in (rising, falling))
    falling[generator.integers(0, len(falling) + 1) :] = -np.inf
    always, never = generator.integers(0, 3, 2)
    rising[:always] = falling[:always] = -np.inf
    rising[len(rising) - never :] = np.inf
    if generator.random() < 0.2:
        rising[:], falling[:] = rising[:, :1], falling[:, :1]
    return ThresholdNeuron(rising, falling, even.amplitude, even.offset)


def currents(generator: np.random.Generator, shape: tuple[int, ...], borders: Array, dtype: np.dtype[Any]) -> Array:
    """Float32 numbers [outer, channels, inner] about the borders [steps, channels, 1], random and special ones."""
    with np.errstate(all="ignore"):
        place = generator.integers(0, len(borders), shape)
        at_border = borders[place, np.arange(shape[1])[:, None], 0]
        x = np.where(generator.random(shape) < 0.6, at_border, generator.normal(0.3, 1.5, shape) * at_border)
        x = x.astype(np.float32)
        for _ in range(2):
            toward = np.float32(generator.choice([-np.inf, np.inf]))
            x = np.where(generator.random(shape) < 0.3, np.nextafter(x, toward), x)
        flat = x.reshape(-1)
        if flat.size:
            places = generator.integers(0, flat.size, min(flat.size, 2 * len(SPECIAL)))
            flat[places] = generator.choice(SPECIAL, len(places))
        return x.astype(dtype)


def arguments(device: Device, neuron: Firing) -> Neurons:
    """The parameters on the device; one value where all channels share it."""

    def parameter(part: Array) -> Parameter:
        single = bool((part == part[:1]).all())
        return Parameter(device.place(part[:1] if single else part), 0 if single else 1)

    if isinstance(neuron, Neuron):
        parts = [parameter(part) for part in (neuron.threshold, neuron.shift, neuron.amplitude, neuron.offset)]
        return Neurons(*parts, largest=neuron.levels - 1)
    assert isinstance(neuron, ThresholdNeuron)
    single = all(bool((part == part[:, :1]).all()) for part in (neuron.rising, neuron.falling))
    both = [part[:, :1] if single else part for part in (neuron.rising, neuron.falling)]
    channels = both[0].shape[1]
    each = Thresholds(*(device.place(part) for part in both), neuron.levels - 1, channels, 0 if single else 1)
    amplitude, offset = parameter(neuron.amplitude), parameter(neuron.offset)
    return Neurons(amplitude=amplitude, offset=offset, largest=neuron.levels - 1, each=each)


def shape_of(generator: np.random.Generator) -> tuple[int, int, int]:
    shape = [int(generator.choice(SIZES)) for _ in range(3)]
    if generator.random() < 0.04:
        shape[generator.integers(3)] = 0
    if generator.random() < 0.1:
        shape[2] = int(generator.integers(1, 3000))
    if generator.random() < 0.4:  # channels last, and packs of two channels
        shape[1], shape[2] = int(generator.choice([8, 16, 24, 64])), int(generator.choice([1, 1, 9, 33, 49]))
    if generator.random() < 0.1:
        shape[1] = 1
    if np.prod(shape) > 20_000:
        shape[0] = 1
    return shape[0], shape[1], shape[2]


def one(device: Device, shape: tuple[int, int, int] | None = None) -> None:
    """One random case through every kernel; of a shape, where one is given."""
    generator, library = device.generator, device.library
    coding = str(generator.choice(CODINGS))
    steps = int(generator.integers(1, (20 if generator.random() < 0.9 else 256) if coding == "rate" else 9))
    levels, dtype = levels_of(steps, coding), device.types[generator.integers(len(device.types))]
    shape = shape or shape_of(generator)
    device.at_end = bool(generator.random() < 0.5)
    even = even_neuron(generator, shape[1], levels)
    every = threshold_neuron(generator, even)
    with np.errstate(all="ignore"):
        borders = np.arange(-1, levels + 2, dtype=np.float32)[:, None, None] * even.threshold - even.shift
        finite = np.nan_to_num(np.concatenate([every.rising, every.falling]), posinf=9, neginf=-9)
    for name, neuron, about in (("even", even, borders), ("of every step", every, finite)):
        x = currents(generator, shape, about, dtype)
        head, count = run_levels(device, name, neuron, x)
        if neuron is even:
            device.run(f"counts, {dtype}", x, count, lambda x, y, h=head: library.neuron(h[0], 1, x, y, *h[1:]))
        if x.size * steps <= 60_000:
            for inputs in {1, steps}:
                trains(device, name, x, neuron, head, Steps(inputs, steps, coding == "phase"), coding)
    device.clear()


def run_levels(device: Device, name: str, neuron: Firing, x: Array) -> tuple[tuple[Any, ...], Array]:
    """Levels of x; what calls of this neuron begin with, and the counts."""
    given, count = arguments(device, neuron), neuron.count(x)
    with np.errstate(all="ignore"):
        fired = np.where(np.isnan(x.astype(np.float32)), np.float32(np.nan), neuron.decode(count)).astype(x.dtype)
    head = TYPES.index(x.dtype), ctypes.byref(Layout(*x.shape)), ctypes.byref(given)
    call = device.library.neuron
    device.run(f"levels, {name}, {x.dtype}", x, fired, lambda x, y: call(head[0], 0, x, y, *head[1:]))
    return head, count


def every_number(device: Device, dtype: np.dtype[Any]) -> None:
    """Every number of a short type, under thresholds of any bits and some beside its numbers."""
    x, steps, generator = np.arange(1 << 16, dtype=np.uint16).view(dtype), 24, device.generator
    for _ in range(4):
        anything = generator.integers(0, 1 << 32, 4 * steps, np.uint32).view(np.float32)
        with np.errstate(all="ignore"):
            beside = np.nextafter(generator.choice(x, steps).astype(np.float32), np.float32([[-np.inf], [np.inf]]))
        several = np.concatenate([anything, beside.reshape(-1)])
        chosen = np.sort(generator.choice(several[~np.isnan(several)], 2 * steps))[:, None, None]
        neuron = ThresholdNeuron(chosen[steps:], chosen[steps - 1 :: -1], np.float32([[1]]), np.float32([[0]]))
        run_levels(device, "of every step", neuron, x.reshape(1, 1, -1))
    device.clear()


def trains(
    device: Device, name: str, x: Array, neuron: Firing, head: tuple[Any, ...], steps: Steps, coding: str
) -> None:
    """A train of x, or of a current for each step; then the kernels that only go through time."""
    library, dtype, size = device.library, x.dtype, ctypes.c_int64(x.size)
    inputs, outputs, over_time = steps.input, steps.output, ctypes.byref(steps)
    with np.errstate(all="ignore"):
        planes = np.stack([x.astype(np.float32) * np.float32((1 + k) / inputs) for k in range(inputs)]).astype(dtype)
        total, weights = np.zeros(x.shape, np.float32), step_weights(inputs, coding)
        for weight, plane in zip(weights, planes.astype(np.float32), strict=True):
            total = total + weight * plane
        mean = (total / weights.sum()).astype(np.float32) if inputs > 1 else planes[0].astype(np.float32)
        spikes = spike_train(neuron.count(mean), outputs, coding).astype(dtype)
    device.run(
        f"trains, {name}, {dtype}", planes, spikes, lambda x, y: library.train(head[0], x, y, *head[1:], over_time)
    )
    if name == "even":
        with np.errstate(all="ignore"):
            narrow = mean.astype(dtype)
        device.run(f"means, {dtype}", planes, narrow, lambda x, y: library.mean(head[0], x, y, size, over_time))
        many = np.broadcast_to(x, (outputs, *x.shape)).copy()
        device.run("repeats", x, many, lambda a, b: library.repeat(a, b, ctypes.c_int64(x.nbytes), outputs))


LARGE = ((40, 64, 784), (31_360, 64, 1), (640, 64, 49))  # more packs than a launch has threads, in each layout


def check(library: Path, cases: int, types: tuple[np.dtype[Any], ...] = TYPES) -> Device:
    """Random cases, each from a seed of its own; from 100 on, large ones too. Raises DifferentError."""
    device = Device(ctypes.CDLL(str(library)), np.random.default_rng(0), types=types)
    for number in range(cases):
        device.generator = np.random.default_rng(number)
        try:
            one(device, LARGE[number // 100 % len(LARGE)] if number % 100 == 99 else None)
        except DifferentError as error:
            raise DifferentError(f"case {number}: {error}") from error
    for dtype in (each for each in types if each.itemsize == 2):
        every_number(device, dtype)
    return device


def main() -> None:
    library, cases = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 300
    types = tuple(each for each in TYPES if each.name in sys.argv[3:]) or TYPES
    try:
        done = check(library, cases, types)
    except DifferentError as error:
        sys.exit(f"differs: {error}")
    for what in sorted(done.launches):
        print(f"{what:32} {done.launches[what]:7,} launches {done.numbers[what]:12,} numbers")
    print(f"equal to the definition: {done.launches.total():,} launches, {done.numbers.total():,} numbers")


if __name__ == "__main__":
    main()
