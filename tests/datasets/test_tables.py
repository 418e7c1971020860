"""Parquet and Arrow files: columns of numbers and of encoded images, in pieces, and refused where they do not fit."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphpass.datasets import tables
from graphpass.datasets.parts import InputSpec
from graphpass.datasets.sources import from_arrays, is_made_of_images, open_dataset
from graphpass.errors import OptionError
from tests.sources import FLOAT32, IDS, PIXELS, RGB, SAMPLES, TARGETS, X, check_whole, refuse, save_image, together

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (pip install 'graphpass[arrow]')")
pq = pytest.importorskip("pyarrow.parquet")
compute = pytest.importorskip("pyarrow.compute")


def parquet(path: Path, table: Any) -> Path:
    pq.write_table(table, path, row_group_size=3)
    return path


def arrow_file(path: Path, table: Any) -> Path:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return path


def arrow_stream(path: Path, table: Any) -> Path:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return path


WRITERS: dict[str, Callable[[Path, Any], Path]] = {
    "x.parquet": parquet, "x.arrow": arrow_file, "y.arrow": arrow_stream, "x.feather": arrow_file,
}  # fmt: skip


def numbers(name: str = "x", **more: Any) -> Any:
    return pa.table({name: SAMPLES.tolist(), **more})


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("label", ["labels", "label"])
def test_columns_of_numbers(tmp_path: Path, name: str, label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROWS", 2)
    table = numbers(
        **{"x": pa.array(SAMPLES.tolist(), pa.list_(pa.list_(pa.float32()))), label: TARGETS, "note": ["a"] * 7}
    )
    dataset = open_dataset(str(WRITERS[name](tmp_path / name, table)), [X])
    check_whole(dataset)
    assert dataset.samples == 7 and not dataset.images and not is_made_of_images(str(tmp_path / name))
    assert dataset.digest == from_arrays({"x": SAMPLES, "labels": TARGETS}, [X]).digest


def test_lists_of_a_fixed_size_and_several_inputs(tmp_path: Path) -> None:
    fixed = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(SAMPLES.ravel(), 2), 3)
    path = parquet(tmp_path / "x.parquet", pa.table({"ids": [[1, 2]] * 7, "x": fixed}))
    batch = next(open_dataset(str(path), [X, IDS]).batches(7))
    np.testing.assert_array_equal(batch.inputs["x"], SAMPLES)
    assert batch.inputs["ids"].tolist() == [[1, 2]] * 7 and batch.labels is None


def images(folder: Path, column: str = "image", as_struct: bool = True, **more: Any) -> Any:
    found = [save_image(folder / "plain" / f"{n}.png", np.roll(RGB, n, 0)).read_bytes() for n in range(5)]
    return pa.table({column: [{"bytes": each, "path": None} for each in found] if as_struct else found, **more})


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("as_struct", [False, True])
def test_columns_of_images(tmp_path: Path, name: str, as_struct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROWS", 2)
    path = WRITERS[name](tmp_path / name, images(tmp_path, as_struct=as_struct))
    dataset, plain = (open_dataset(str(each), [PIXELS]) for each in (path, tmp_path / "plain"))
    np.testing.assert_array_equal(together(list(dataset.batches(2)))[0], together(list(plain.batches(5)))[0])
    assert dataset.digest == plain.digest and dataset.images and is_made_of_images(str(path))


def test_a_missing_image_is_none_whatever_lies_below_it(tmp_path: Path) -> None:
    whole = images(tmp_path).column("image").combine_chunks()
    hidden = pa.StructArray.from_arrays(
        whole.flatten(), ["bytes", "path"], mask=pa.array([False] * (len(whole) - 1) + [True])
    )
    path = arrow_file(tmp_path / "x.arrow", pa.table({"image": hidden}))
    refuse(path, "the table holds no bytes", "", [PIXELS])


@pytest.mark.parametrize("kind", ["large_binary", "binary_view"])
def test_other_types_of_bytes(tmp_path: Path, kind: str) -> None:
    plain = images(tmp_path, as_struct=False)
    column = pa.array(plain.column(0).to_pylist(), getattr(pa, kind)())  # older versions of pyarrow have no such cast
    path = arrow_file(tmp_path / "x.arrow", plain.set_column(0, "image", column))
    found = open_dataset(str(arrow_file(tmp_path / "plain.arrow", plain)), [PIXELS])
    assert open_dataset(str(path), [PIXELS]).digest == found.digest


ENCODINGS: dict[str, Callable[[Any], Any]] = {
    "dictionary": lambda column: column.dictionary_encode(),
    "runs": lambda column: compute.run_end_encode(column),
}


def writers_of(encoding: str) -> list[str]:
    return [name for name in WRITERS if encoding != "runs" or name != "x.parquet"]  # Parquet has no type for runs


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("as_struct", [False, True])
def test_encoded_columns_of_images_and_labels(tmp_path: Path, encoding: str, as_struct: bool) -> None:
    plain = images(tmp_path, as_struct=False, label=[3, 1, 4, 1, 5])
    expected = open_dataset(str(arrow_file(tmp_path / "plain.arrow", plain)), [PIXELS])
    pictures, label = (ENCODINGS[encoding](column.combine_chunks()) for column in plain.columns)
    if as_struct:
        pictures = pa.StructArray.from_arrays([pictures, pa.array(["a"] * 5)], ["bytes", "path"])
    for name in writers_of(encoding if not as_struct else "runs"):  # Parquet has no structs of dictionaries, either
        path = WRITERS[name](tmp_path / name, pa.table({"image": pictures, "label": label}))
        found = open_dataset(str(path), [PIXELS])
        assert found.digest == expected.digest and found.images and is_made_of_images(str(path))
        np.testing.assert_array_equal(*(together(list(each.batches(2)))[1] for each in (found, expected)))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encoded_columns_with_missing_values_or_of_texts(tmp_path: Path, encoding: str) -> None:
    encoded = ENCODINGS[encoding]
    for name in writers_of(encoding):
        table = pa.table({"image": encoded(pa.array([b"no image", None]))})
        refuse(WRITERS[name](tmp_path / name, table.slice(1)), "the table holds no bytes", "", [PIXELS])
        for labels, what in (([1, None], "it lacks 1 value"), (["a", "b"], "a column of string")):
            table = pa.table({"x": SAMPLES[:2].tolist(), "label": encoded(pa.array(labels))})
            refuse(WRITERS[name](tmp_path / name, table), what, "", [X])


@pytest.mark.parametrize("name", WRITERS)
def test_bytes_of_one_size_are_images_and_identifiers_are_not(tmp_path: Path, name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)
    found = [save_image(tmp_path / "plain" / f"{n}.bmp", each).read_bytes() for n, each in enumerate(pixels)]
    fixed = pa.array(found, pa.binary(len(found[0])))
    more = {"id": pa.array([bytes([n]) * 16 for n in range(5)], pa.binary(16)),
            "sha512": pa.array([bytes([n]) * 64 for n in range(5)], pa.binary(64))}  # fmt: skip
    path = WRITERS[name](tmp_path / name, pa.table({"image": fixed, **more}))
    dataset, plain = (open_dataset(str(each), [PIXELS]) for each in (path, tmp_path / "plain"))
    assert dataset.digest == plain.digest and dataset.images and is_made_of_images(str(path))
    assert not is_made_of_images(
        str(WRITERS[name](tmp_path / name, numbers(**{k: v.take([0] * 7) for k, v in more.items()})))
    )


def test_shards_with_labels(tmp_path: Path) -> None:
    table = images(tmp_path, "x", label=[3, 1, 4, 1, 5])
    (tmp_path / "shards").mkdir()
    for number in (1, 0):
        parquet(tmp_path / "shards" / f"train-{number}.parquet", table.slice(2 * number, 2 + number))
    dataset = open_dataset(str(tmp_path / "shards"), [PIXELS])
    found, labels = together(list(dataset.batches(3)))
    assert found.shape == (5, 3, 4, 6) and labels is not None and labels.tolist() == [3, 1, 4, 1, 5]
    assert (dataset.samples, dataset.labelled) == (5, True)


def test_what_datasets_writes(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    image = {"bytes": save_image(tmp_path / "a.png").read_bytes(), "path": None}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    data = datasets.Dataset.from_dict({"image": [image] * 3, "label": [0, 1, 0]}, features=features)
    data.to_parquet(tmp_path / "x.parquet")
    found, labels = together(list(open_dataset(str(tmp_path / "x.parquet"), [PIXELS]).batches(3)))
    np.testing.assert_array_equal(found[0] * np.float32(255), RGB.transpose(2, 0, 1))
    assert labels is not None and labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("table", "inputs", "what", "remedy"),
    [
        (lambda: numbers("y"), [X], "no column 'x' among y", "name a column after each input"),
        (lambda: numbers(labels=["a"] * 7), [X], "a column of string", "give numbers"),
        (lambda: pa.table({"ids": [[1, 2], [3]]}), [IDS], "rows of different lengths", "pad or crop"),
        (lambda: pa.table({"ids": [[1, 2], None]}), [IDS], "it lacks 1 value", "fill or remove"),
        (lambda: pa.table({"x": [[1.0, 2.0]]}), [X], "'x' has shape (1, 2)", "reshape"),
        (lambda: numbers().slice(0, 0), [X], "no samples", "give at least one"),
        (lambda: pa.table({"image": [b"no image"]}), [PIXELS], "image 0: cannot be read as an image (", "remove it"),
        (lambda: pa.table({"image": [{"bytes": None, "path": "/etc/passwd"}]},
                          pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])),
         [PIXELS], "perhaps a path", "remove it"),
        (lambda: pa.table({"a": [b"x"], "b": [b"x"]}), [PIXELS], "no column 'x' among a, b", "name a column"),
        (lambda: pa.table({"image": [b"x"]}), [X], "no column 'x' among image", "name a column"),
        (lambda: pa.table([pa.array([b"x"])] * 2, names=["image"] * 2), [PIXELS],
         "two columns are named 'image'", "rename"),
        (lambda: pa.table([pa.array([1.0])] * 2, names=["x"] * 2), [X], "two columns are named 'x'", "rename"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
def test_refusals(tmp_path: Path, name: str, table: Any, inputs: list[InputSpec], what: str, remedy: str) -> None:
    refuse(WRITERS[name](tmp_path / name, table()), what, remedy, inputs)


def test_streams_that_break_off_between_batches(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, numbers().schema) as writer:
        for batch in numbers().to_batches(max_chunksize=3):
            writer.write_batch(batch)
            cut = sink.tell()
    whole = sink.getvalue()
    assert cut < len(whole)
    for content in (whole[: len(whole) // 2], whole[:cut], whole + whole, whole + b"x"):
        (tmp_path / "x.arrow").write_bytes(content)
        refuse(tmp_path / "x.arrow", "cannot be read as a table", "write it again", [X])
    (tmp_path / "x.arrow").write_bytes(whole)
    assert open_dataset(str(tmp_path / "x.arrow"), [X]).samples == 7


@pytest.mark.parametrize(("suffix", "write"), [("parquet", parquet), ("arrow", arrow_file)])
def test_a_shard_without_a_column_of_the_others_is_named(tmp_path: Path, suffix: str, write: Any) -> None:
    write(tmp_path / f"a.{suffix}", numbers(labels=list(range(7))))
    for other in (numbers(), numbers("y", labels=list(range(7)))):
        write(tmp_path / f"b.{suffix}", other)
        refuse(tmp_path, f"b.{suffix}: no column", "give all files the same columns", [X])


def test_an_image_with_two_kinds_of_bytes_is_none(tmp_path: Path) -> None:
    fields = [pa.field("bytes", pa.binary())] * 2
    column = pa.StructArray.from_arrays([pa.array([b"x"])] * 2, fields=fields)
    refuse(
        parquet(tmp_path / "x.parquet", pa.table({"image": column})), "no column 'x' among image", "name a", [PIXELS]
    )


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_files(tmp_path: Path, name: str) -> None:
    path = WRITERS[name](tmp_path / name, numbers(labels=TARGETS))
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for content in (b"", b"no table", whole[: len(whole) // 2]):
        path.write_bytes(content)
        refuse(path, "cannot be read as a table", "write it again", [X])
    for _ in range(40):  # any bytes are taken or refused, and nothing is read beyond them
        changed = bytearray(whole)
        for place in random.integers(0, len(whole), 8):
            changed[place] = random.integers(0, 256)
        path.write_bytes(changed)
        try:
            list(open_dataset(str(path), [X]).batches(3))
        except OptionError:
            raise
        except tables.DataError:
            continue


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path / "x.parquet", numbers())
    monkeypatch.setattr(tables, "find_spec", lambda name: None)
    with pytest.raises(
        OptionError, match=r"pyarrow is not installed, and tables need it; pip install 'graphpass\[arrow"
    ):
        open_dataset(str(path), [InputSpec("x", FLOAT32, (None, 3, 2))])
