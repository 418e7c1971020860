"""Folders of shards and of images: order, labels, and what may not lie beside them."""

from pathlib import Path

import numpy as np

from graphpass.datasets.sources import open_dataset
from tests.sources import (
    IDS,
    PIXELS,
    SAMPLES,
    TARGETS,
    X,
    check_whole,
    refuse,
    save_image,
    save_npz,
    save_shards,
    together,
)


def test_shards_in_the_order_of_their_names(tmp_path: Path) -> None:
    check_whole(open_dataset(save_shards(tmp_path), [X]))


def test_shards_that_do_not_fit_together(tmp_path: Path) -> None:
    save_npz(tmp_path / "0.npz", ids=np.ones((2, 3), int), labels=TARGETS[:2])
    second = tmp_path / "1.npz"
    remedy = "pad or crop every sample to one shape, and label all of them or none"
    save_npz(second, ids=np.ones((2, 4), int), labels=TARGETS[:2])
    refuse(tmp_path, "'ids' has samples of another shape or type than in", remedy, [IDS], str(second))
    save_npz(second, ids=np.ones((2, 3), int))
    refuse(tmp_path, "'labels' has samples of another shape or type", remedy, [IDS], str(second))
    save_npz(second, ids=np.ones((2, 3), int), labels=[0.5, 1])
    refuse(tmp_path, "'labels' has samples of another shape or type", remedy, [IDS], str(second))
    second.write_bytes(b"no archive")
    refuse(tmp_path, "cannot be read as .npz", "write it again", [IDS], str(second))
    second.unlink()
    (tmp_path / "notes.txt").write_text("")
    refuse(tmp_path, "not an .npz shard", "move it out", [IDS], str(tmp_path / "notes.txt"))


def test_shards_without_samples(tmp_path: Path) -> None:
    save_npz(tmp_path / "0.npz", x=SAMPLES[:0])
    refuse(tmp_path, "no samples", "give at least one", [X], str(tmp_path / "0.npz"))


def test_classes_are_labelled_in_the_order_of_their_names(tmp_path: Path) -> None:
    for index, name in enumerate(["cat/b.png", "cat/a.bmp", "ape/z.PNG", "dog/w.webp"]):
        options = {"lossless": True} if name.endswith("webp") else {}
        save_image(tmp_path / name, np.full((4, 6, 3), index, np.uint8), **options)
    (tmp_path / "bee").mkdir()  # a class without images keeps its number
    dataset = open_dataset(str(tmp_path), [PIXELS])
    assert (dataset.description, dataset.samples, dataset.labelled) == (tmp_path.name, 4, True)
    batches = list(dataset.batches(3))
    assert [batch.size for batch in batches] == [3, 1]
    samples, labels = together(batches)
    assert labels is not None and labels.tolist() == [0, 2, 2, 3] and labels.dtype == np.int64
    np.testing.assert_array_equal(samples[:, 0, 0, 0], np.array([2, 1, 0, 3], np.float32) / np.float32(255))


def test_integer_class_names_are_the_labels(tmp_path: Path) -> None:
    for name in ("7", "10", "007"):
        save_image(tmp_path / name / "a.png")
    _, labels = together(list(open_dataset(str(tmp_path), [PIXELS]).batches(3)))
    assert labels is not None and labels.tolist() == [7, 10, 7]


def test_flat_folder_is_unlabelled(tmp_path: Path) -> None:
    save_image(tmp_path / "a.jpg")
    save_image(tmp_path / "b.jpeg")
    dataset = open_dataset(str(tmp_path), [PIXELS])
    assert (dataset.samples, dataset.labelled) == (2, False)
    assert next(dataset.batches(2)).labels is None
