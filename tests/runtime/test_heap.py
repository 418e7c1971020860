"""Memory that is given back: dropped graphs go, and another C library is no error."""

import ctypes
import gc
import weakref

import pytest

from graphpass.runtime import heap


class Knot:
    """Something that refers to itself, as tensors and nodes of a graph do."""

    def __init__(self) -> None:
        self.itself = self


def test_what_refers_to_itself_is_freed() -> None:
    gc.disable()
    try:
        knot = weakref.ref(Knot())
        assert knot() is not None
        heap.give_back()
        assert knot() is None
    finally:
        gc.enable()


def test_blocks_are_as_usual_behind_a_tidy_part_even_if_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    monkeypatch.setattr(heap, "_function", lambda name: lambda *numbers: calls.append(numbers))
    with pytest.raises(ValueError, match="stop"), heap.tidy():
        raise ValueError("stop")
    trim, usual = (0,), [(heap.MMAP_THRESHOLD, heap.USUAL), (heap.TRIM_THRESHOLD, 2 * heap.USUAL)]
    assert calls == [trim, (heap.MMAP_THRESHOLD, heap.WHILE_OPEN), *usual, trim]


def test_another_c_library_has_none_of_this(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with heap.tidy():
        heap.give_back()
