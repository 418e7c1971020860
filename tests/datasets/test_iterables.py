"""Iterables: what an item may be, in which order, how often they are read, and how much is held."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from graphpass.api import open_dataset
from graphpass.datasets import iterables
from graphpass.datasets.images import ImageOptions
from graphpass.datasets.iterables import open_iterable
from graphpass.datasets.parts import InputSpec
from graphpass.datasets.sources import from_arrays
from graphpass.errors import DataError, OptionError
from graphpass.inputs import dataset_of
from tests.legal import network
from tests.properties import examples
from tests.sources import FLOAT32, IDS, PIXELS, RGB, SAMPLES, TARGETS, X, check_refusal, check_whole, together

PAIR = [X, InputSpec("ids", np.dtype(np.int64), (None, None))]
ROWS = np.arange(21).reshape(7, 3)


class Numbered:
    """A dataset as PyTorch's: items by number, and no IndexError that would end an iteration."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> Any:
        return SAMPLES[index % 7], int(TARGETS[index % 7])


class Loader:
    """Batches, in another order at every pass if it shuffles."""

    def __init__(self, shuffle: bool):
        self.passes = 0
        self._random = np.random.default_rng(0) if shuffle else None

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        order = np.arange(7) if self._random is None else self._random.permutation(7)
        for rows in (order[:3], order[3:5], order[5:]):
            yield SAMPLES[rows], TARGETS[rows]


def batches_of(*sizes: int) -> list[slice]:
    ends = list(itertools.accumulate(sizes))
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


ITEMS: dict[str, Callable[[], Any]] = {
    "samples in dicts": lambda: [{"x": x, "labels": y} for x, y in zip(SAMPLES, TARGETS, strict=True)],
    "samples with Hugging Face's label": lambda: [{"x": x, "label": y} for x, y in zip(SAMPLES, TARGETS, strict=True)],
    "samples in lists of numbers": lambda: [(x.tolist(), int(y)) for x, y in zip(SAMPLES, TARGETS, strict=True)],
    "samples and labels in tuples": lambda: list(zip(SAMPLES, TARGETS, strict=True)),
    "features and labels": lambda: [({"x": SAMPLES[cut]}, TARGETS[cut]) for cut in batches_of(4, 3)],
    "a tuple of inputs and labels": lambda: [((SAMPLES[cut],), TARGETS[cut]) for cut in batches_of(4, 3)],
    "batches": lambda: [[SAMPLES[cut], TARGETS[cut]] for cut in batches_of(2, 2, 3)],
    "a batch of none between": lambda: [(SAMPLES[cut], TARGETS[cut]) for cut in batches_of(2, 0, 5)],
    "a generator": lambda: ((x, y) for x, y in zip(SAMPLES, TARGETS, strict=True)),
    "a dataset by numbers": Numbered,
    "a loader": lambda: Loader(shuffle=False),
}


@pytest.mark.parametrize("what", ITEMS)
def test_items_of_every_kind_are_the_same_samples(what: str) -> None:
    dataset = open_iterable(ITEMS[what](), [X])
    check_whole(dataset)
    assert dataset.digest == from_arrays({"x": SAMPLES, "labels": TARGETS}, [X]).digest


def test_items_without_labels() -> None:
    check_whole(open_iterable(list(SAMPLES), [X]), labelled=False)
    check_whole(open_iterable([(SAMPLES,)], [X]), labelled=False)


def test_several_inputs_are_in_the_order_of_the_model() -> None:
    for items in (
        [(SAMPLES, ROWS, TARGETS)],
        [((SAMPLES, ROWS), TARGETS)],
        list(zip(SAMPLES, ROWS, TARGETS, strict=True)),
    ):
        batch = next(open_iterable(items, PAIR).batches(7))
        np.testing.assert_array_equal(batch.inputs["ids"], ROWS)
        np.testing.assert_array_equal(batch.labels, TARGETS)


def test_what_shuffles_is_read_once_and_held() -> None:
    loader = Loader(shuffle=True)
    dataset = open_iterable(loader, [X])
    passes = loader.passes
    first, second = (together(list(dataset.batches(4))) for _ in range(2))
    assert loader.passes == passes and dataset.samples == 7
    assert dataset.held == SAMPLES.nbytes + TARGETS.nbytes
    np.testing.assert_array_equal(first[0], second[0])
    assert sorted(map(bytes, first[0])) == sorted(map(bytes, SAMPLES)) and first[0].tobytes() != SAMPLES.tobytes()


def test_what_keeps_its_order_is_read_again_and_not_held() -> None:
    loader = Loader(shuffle=False)
    dataset = open_iterable(loader, [X])
    assert (dataset.samples, dataset.held) == (None, 0)
    passes = loader.passes
    list(dataset.batches(2))
    assert loader.passes == passes + 1


def test_a_buffer_that_is_filled_again() -> None:
    def buffered() -> Iterator[Any]:
        buffer = np.zeros_like(SAMPLES[:1])
        for x in SAMPLES:
            buffer[:] = x
            yield (buffer,)

    check_whole(open_iterable(buffered(), [X]), labelled=False)


@examples(30)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    limit=st.integers(1, 40),
    once=st.booleans(),
    size=st.integers(1, 9),
)
def test_a_limit_is_how_many_are_taken(sizes: list[int], limit: int, once: bool, size: int) -> None:
    x = np.arange(6.0 * sum(sizes), dtype=np.float32).reshape(-1, 3, 2)
    items = [(x[cut], np.arange(len(x))[cut]) for cut in batches_of(*sizes)]
    dataset = open_iterable(iter(items) if once else items, [X], limit)
    found, labels = together(list(dataset.batches(size)))
    np.testing.assert_array_equal(found, x[:limit])
    np.testing.assert_array_equal(labels, np.arange(len(x))[:limit])
    assert dataset.digest == from_arrays({"x": x[:limit], "labels": np.arange(len(x))[:limit]}, [X]).digest
    assert next(dataset.batches(size, start=min(limit, len(x)) - 1)).size == 1


def test_no_more_is_read_than_the_limit() -> None:
    def endless() -> Iterator[Any]:
        for number in itertools.count():
            assert number < 5
            yield {"x": SAMPLES[number]}

    assert open_iterable(endless(), [X], 5).samples == 5


@pytest.mark.parametrize("items", [lambda: iter([SAMPLES] * 9), lambda: Loader(shuffle=True)])
def test_what_is_read_once_has_a_bound(items: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterables, "HELD", SAMPLES.nbytes)
    with pytest.raises(DataError) as refusal:
        open_iterable(items(), [X])
    check_refusal(refusal.value, "", "it is kept in memory", "give a limit of samples")


class Failing:
    def __iter__(self) -> Iterator[Any]:
        yield SAMPLES
        raise OSError("two\nlines")


class Unready:
    def __iter__(self) -> Iterator[Any]:
        raise OSError("no such bucket")


@pytest.mark.parametrize(
    ("items", "what", "remedy"),
    [
        ([], "list: no samples", "give at least one"),
        (iter([]), "list_iterator: no samples", "give at least one"),
        ([None], "list, item 0: 'x' holds Python objects, not numbers", "plain array"),
        ([SAMPLES, "text"], "list, item 1: 'x' has shape ()", "reshape"),
        ([[[1], [1, 2]]], "list, item 0: 'x' has shape (1,)", "reshape"),
        ([{"x": [[1], [1, 2]]}], "list, item 0: is not made of arrays", "give tensors or arrays"),
        ([(SAMPLES, TARGETS, 3)], "list, item 0: 3 values for a model of 1 input (x)", "optionally labels"),
        ([{"y": SAMPLES}], "list, item 0: holds 'y' where the model takes 'x'", "rename"),
        ([{"x": SAMPLES, "text": "a"}], "list, item 0: 'text' is not an input", "name the arrays x"),
        ([(SAMPLES,), (SAMPLES, TARGETS)], "list, item 1: 'labels' has", "label all of them or none"),
        ([SAMPLES.astype(np.uint8)], "list, item 0: 'x' is uint8, the model takes float32", "/ 255"),
        ([SAMPLES[0], SAMPLES[1] * np.nan], "list, item 1: 'x' holds NaN", "repair"),
        (Failing(), "Failing, item 1: failed (OSError: two lines)", "correct"),
        (Unready(), "Unready: cannot be iterated (OSError: no such bucket)", "give a DataLoader"),
    ],
)
def test_refusals(items: Any, what: str, remedy: str) -> None:
    with pytest.raises(DataError) as refusal:
        list(open_iterable(items, [X]).batches(3))
    check_refusal(refusal.value, what, "", remedy)


def test_texts_of_different_lengths_say_what_to_do() -> None:
    with pytest.raises(DataError, match="pad or crop every sample to one shape"):
        list(open_iterable([{"ids": [1, 2]}, {"ids": [1, 2, 3]}], [IDS]).batches(2))


def test_an_iterable_is_data_for_the_public_functions() -> None:
    rows = np.random.default_rng(0).normal(size=(6, 8)).astype(FLOAT32)
    given = dataset_of(iter(rows), network(), ImageOptions(), limit=4)
    assert given.samples == 4 and given.digest == dataset_of({"x": rows[:4]}, network(), ImageOptions()).digest


def test_a_loader_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.tensor(SAMPLES, requires_grad=True), torch.tensor(TARGETS))
    for more in ({"batch_size": 3}, {"batch_size": None}):
        check_whole(open_iterable(torch.utils.data.DataLoader(data, **more), [X]))
    check_whole(open_iterable(data, [X]))
    shuffled = open_iterable(torch.utils.data.DataLoader(data, batch_size=2, shuffle=True), [X])
    assert shuffled.samples == 7 and shuffled.held


class Broken(list[int]):
    """A dataset of PyTorch whose third item cannot be had."""

    def __getitem__(self, index: Any) -> Any:
        if index == 2:
            raise ValueError("broken.png\ncannot be read")
        return np.zeros(3, np.float32)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_a_loader_is_told_without_the_traceback_of_its_worker(workers: int) -> None:
    data = pytest.importorskip("torch.utils.data", reason="PyTorch is not installed")
    loader = data.DataLoader(Broken(range(4)), batch_size=1, num_workers=workers)
    with pytest.raises(DataError, match=r"item 2: failed \(ValueError: broken.png cannot be read\); correct the iter"):
        open_iterable(loader, [InputSpec("x", (None, 3), np.dtype(np.float32))])


def test_a_dataset_of_hugging_face() -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"x": list(SAMPLES), "label": list(TARGETS)})
    for each in (data, data.with_format("numpy"), data.to_iterable_dataset()):
        check_whole(open_iterable(each, [X]))


def test_images_of_pillow_are_prepared() -> None:
    items = [{"image": Image.fromarray(np.roll(RGB, number, 0)), "label": number} for number in range(4)]
    dataset = open_iterable(items, [PIXELS], images=ImageOptions(std=(0.5,)))
    found, labels = together(list(dataset.batches(3)))
    np.testing.assert_array_equal(labels, range(4))
    np.testing.assert_array_equal(found[1] * np.float32(127.5), np.roll(RGB, 1, 0).transpose(2, 0, 1))
    assert dataset.images and not open_iterable(list(SAMPLES), [X]).images
    alone = open_iterable([item["image"] for item in items], [PIXELS])
    np.testing.assert_array_equal(together(list(alone.batches(4)))[0], found / 2)
    with pytest.raises(DataError, match="images need a model with one float input"):
        open_iterable(items, [X])
    clear = Image.fromarray(RGB).convert("P")
    clear.info["transparency"] = 0
    assert open_iterable([clear], [PIXELS]).images and clear.info["transparency"] == 0  # it stays as it is


def test_options_of_images_are_for_images() -> None:
    rows = list(np.zeros((3, 8), np.float32))
    with pytest.raises(OptionError, match="mean has no effect: it is for images"):
        open_dataset(rows, network(), mean=0.5)
