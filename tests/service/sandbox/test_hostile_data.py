"""Hostile archives and data of the table in docs/service.md, with what exactly comes of each."""

import io
import os
import stat
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from service.sandbox.limits import LEAST_MEMORY, Limits
from service.sandbox.runner import Failed, Succeeded
from tests.service.sandbox.hostile_files import (
    averaging,
    encrypted_zip,
    huge_npz,
    lying_npz,
    lying_zip,
    model,
    npy,
    npz,
    tiny,
    zip_bomb,
    zipped,
    zipped_member,
)
from tests.service.sandbox.sandboxed import SMALL, TINY, Box, convert, describe, refused

# archives

PATH = "has a path that is absolute, climbs out of the archive or cannot be shown"


@pytest.mark.some(4)
@pytest.mark.parametrize(
    ("content", "kind", "rule"),
    [
        (zipped_member("../evil"), "invalid-model", PATH),
        (zipped_member("a/../../evil"), "invalid-model", PATH),
        (zipped_member("/etc/evil"), "invalid-model", PATH),
        (zipped_member("a\\..\\..\\evil"), "invalid-model", PATH),
        (zipped_member("C:/evil"), None, ""),  # a folder of that name
        (zipped_member("a//b"), "invalid-model", PATH),
        (zipped_member("a\nb"), "invalid-model", PATH),
        (zipped_member("x" * 256), "invalid-model", "255 bytes"),
        (zipped_member("a/" * 40 + "b"), "invalid-model", "32 folders"),
        (zipped_member("link", b"/etc/passwd", stat.S_IFLNK | 0o777), "invalid-model", "is a symbolic link"),
        (zipped_member("pipe", b"", stat.S_IFIFO | 0o666), "invalid-model", "is not a plain file"),
        (zipped_member("model.onnx/x"), "invalid-model", "is a file and a folder"),
        (zipped_member("model.onnx", TINY), "invalid-model", "appears twice"),
        (encrypted_zip(), "invalid-model", "is encrypted"),
        (zipped({"model.onnx": TINY}, zipfile.ZIP_LZMA), "invalid-model", "is neither stored nor deflated"),
        (lying_zip(100), "invalid-model", "is damaged"),
        (lying_zip(16 << 20), "invalid-model", "is damaged"),
        (zip_bomb(1)[:-50], "invalid-model", "not a readable .zip"),
        (zipped({}), "invalid-model", "holds 0 .onnx files"),
        (zipped({"a.onnx": TINY, "b.onnx": TINY}), "invalid-model", "holds 2 .onnx files"),
        (zipped({f"{k}": b"" for k in range(20_000)}), "invalid-model", "20,000 files, at most 1,000"),
    ],
    ids=[f"archive {number}" for number in range(21)],
)
def test_archives(box: Box, content: bytes, kind: str | None, rule: str) -> None:
    outcome = describe(box, content, "model.zip")
    if kind is None:
        assert isinstance(outcome, Succeeded), outcome
    else:
        refused(outcome, kind, rule)
    assert sorted(path.name for path in box.folder.parent.iterdir()) == ["box"]


@pytest.mark.parametrize("content", [zip_bomb(70), lying_zip(0xFFFFFFF0)], ids=["bomb", "lying header"])
def test_archives_too_large(box: Box, content: bytes) -> None:
    outcome = describe(box, content, "model.zip")
    refused(outcome, "output-limit", "model.zip unpacks to more than the 64 MiB", "file_bytes")


# data


def test_pickled_arrays(box: Box) -> None:
    content = npz(x=np.array([os.system], object))
    for arguments in ({}, {"model": box.put("model.onnx", TINY)}):
        outcome = box.run("describe_dataset", {"file": box.put("data.npz", content), **arguments})
        refused(outcome, "invalid-data", "'x' holds Python objects, not numbers")
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], object))
    outcome = box.run("describe_dataset", {"file": box.put("data.npy", buffer.getvalue())})
    refused(outcome, "invalid-data", "holds Python objects, not numbers")


@pytest.mark.some(1)
@pytest.mark.parametrize(
    "content",
    [huge_npz((1 << 39, 4), 16), huge_npz((1 << 39, 4), 16, fortran=True)],
    ids=["8 TB", "8 TB by columns"],
)
def test_headers_of_eight_terabytes(box: Box, content: bytes) -> None:
    outcome = box.run("describe_dataset", {"file": box.put("data.npz", content)})
    refused(outcome, "invalid-data", "'x' is shorter than its header says")
    refused(convert(box, TINY, content), "invalid-data", "'x' is shorter than its header says", "calibration")


def test_a_header_of_eight_terabytes_that_the_directory_confirms(box: Box) -> None:
    outcome = box.run("describe_dataset", {"file": box.put("data.npz", lying_npz((1 << 39, 4)))})
    why = "'x.npy' cannot be 4,294,967,040 bytes, packed to"
    refused(outcome, "invalid-data", why)
    refused(convert(box, TINY, lying_npz((1 << 39, 4))), "invalid-data", why, "calibration")


@pytest.mark.some(1)
@pytest.mark.parametrize("fortran", [False, True])
def test_npz_bomb(box: Box, fortran: bool) -> None:
    """One sample of 512 MiB, in half a megabyte."""
    box.limits = replace(SMALL, memory_bytes=700 << 20)
    content = huge_npz((1, 4, 1 << 25), 1 << 29, fortran)
    outcome = convert(box, averaging().SerializeToString(), content)
    refused(outcome, "memory-limit", "700 MiB", "memory_bytes")


def test_npy_that_is_shorter_than_it_says(box: Box) -> None:
    whole = io.BytesIO()
    np.save(whole, np.zeros((8, 4), np.float32))
    outcome = box.run("describe_dataset", {"file": box.put("data.npy", whole.getvalue()[:-10])})
    refused(outcome, "invalid-data", "data.npy: cannot be read as .npy")


def test_data_of_an_unknown_kind(box: Box) -> None:
    for content in (b"", b"import os", b"\x89PNG"):
        outcome = box.run("describe_dataset", {"file": box.put("data.py", content)})
        refused(outcome, "invalid-data", "data of an unknown kind")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_image_bomb(box: Box) -> None:
    buffer = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(buffer, "PNG")
    node = helper.make_node("GlobalAveragePool", ["x"], ["scores"], "pool")
    arguments = {
        "file": box.put("images.zip", zipped({"cat/1.png": buffer.getvalue()})),
        "model": box.put("model.onnx", model([node], x=["N", 3, 8, 8]).SerializeToString()),
    }
    outcome = box.run("describe_dataset", arguments)
    refused(outcome, "invalid-data", "images.zip/cat/1.png: cannot be read as an image")


def test_images_without_bytes(box: Box) -> None:
    arguments = {"file": box.put("images.zip", zipped({f"{n % 2}/{n}.png": b"" for n in range(4)}))}
    refused(box.run("describe_dataset", arguments), "invalid-data", "images.zip/0/0.png: an empty file")


# everything


def test_the_least_memory_is_enough_to_report_that_memory_is_short(box: Box) -> None:
    box.limits = replace(SMALL, memory_bytes=LEAST_MEMORY)
    assert isinstance(describe(box, TINY), Succeeded)
    large = numpy_helper.from_array(np.zeros(30 << 20, np.float32), "large")
    refused(describe(box, tiny(large=large).SerializeToString()), "memory-limit", "256 MiB", "memory_bytes")
    with pytest.raises(ValueError, match="256 MiB"):
        Limits(memory_bytes=LEAST_MEMORY - 1)


def test_the_name_of_a_file_is_no_way_out(box: Box) -> None:
    for name in ("../secret", "/etc/passwd", "a\0b", None):
        outcome = box.run("describe_model", {"file": name})
        assert isinstance(outcome, Failed) and outcome.type == "invalid-options", outcome
        assert outcome.what.startswith("file: ") and "names no file" in outcome.what


# counts that a file claims, and texts


@pytest.mark.some(4)
@pytest.mark.parametrize(
    ("kind", "shape"),
    [("|S0", (10**14,)), ("|V0", (10**14,)), ("<U0", (10**14,)), ("<f4", (10**12, 0)), ("<f4", (-1, 4))],
)
@pytest.mark.parametrize("name", ["data.npy", "data.npz", "shards.zip"])
def test_samples_without_bytes(box: Box, kind: str, shape: tuple[int, ...], name: str) -> None:
    array = npy(kind, shape)
    content = {"data.npy": array, "data.npz": zipped({"x.npy": array})}.get(name)
    content = content or zipped({"a.npz": zipped({"x.npy": array})})
    outcome = box.run("describe_dataset", {"file": box.put(name, content)})
    assert isinstance(outcome, Failed) and outcome.type == "invalid-data" and outcome.remedy, outcome
    assert "hold no values" in outcome.what or "has shape (-1, 4)" in outcome.what


@pytest.mark.some(2)
@pytest.mark.parametrize("kind", ["<U3", "|S5", "<M8[s]", "<c8", "|V4", [("a", "<f4")]])
def test_arrays_that_are_no_numbers(box: Box, kind: object) -> None:
    """No model takes them, and no label is one of them."""
    outcome = box.run("describe_dataset", {"file": box.put("data.npy", npy(kind, (3,)) + bytes(100))})
    refused(outcome, "invalid-data", "'array' is ")
