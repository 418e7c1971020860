"""Tar files of images: as a folder of the same images, without extraction; anything else in them is refused."""

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphpass.datasets import tars
from graphpass.datasets.images import ImageOptions
from graphpass.datasets.sources import is_made_of_images, open_dataset
from tests.sources import PIXELS, RGB, X, refuse, save_image, together

COUNT = 5
TURNED = [np.roll(RGB, number, 0) for number in range(COUNT)]


def encoded(number: int, folder: Path) -> bytes:
    return save_image(folder / "encoded" / f"{number}.png", TURNED[number]).read_bytes()


def write(path: Path, members: list[tuple[str | tarfile.TarInfo, bytes]], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name) if isinstance(name, str) else name
            if member.isreg():
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def samples(folder: Path, numbers: range = range(COUNT), labels: bool = True) -> list[tuple[Any, bytes]]:
    found: list[tuple[Any, bytes]] = []
    for number in numbers:
        found += [(f"a.b/{number:03}.png", encoded(number, folder)), (f"a.b/{number:03}.json", b"{}")]
        found += [(f"a.b/{number:03}.cls", f"{number % 2}\n".encode())] if labels else []
    return found


def as_folder(folder: Path) -> str:
    for number, pixels in enumerate(TURNED):
        save_image(folder / "plain" / f"{number}.png", pixels)
    return str(folder / "plain")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_samples_are_those_of_a_folder(tmp_path: Path, form: int) -> None:
    folder = tarfile.TarInfo("a.b")
    folder.type = tarfile.DIRTYPE
    members = [(folder, b""), (".DS_Store", b"x"), *samples(tmp_path), ("a.b/._0", b"x")]
    dataset = open_dataset(str(write(tmp_path / "x.tar", members, format=form)), [PIXELS])
    found, labels = together(list(dataset.batches(2)))
    plain, _ = together(list(open_dataset(as_folder(tmp_path), [PIXELS]).batches(2)))
    np.testing.assert_array_equal(found, plain)
    np.testing.assert_array_equal(labels, np.arange(COUNT) % 2)
    assert (dataset.samples, dataset.labelled, dataset.images) == (COUNT, True, True)


def test_shards_follow_one_another_and_have_the_digest_of_one(tmp_path: Path) -> None:
    whole = open_dataset(str(write(tmp_path / "x.tar", samples(tmp_path, labels=False))), [PIXELS])
    for name, numbers in (("b.tar", range(2, COUNT)), ("a.tar", range(2))):
        write(tmp_path / "shards" / name, samples(tmp_path, numbers, labels=False))
    shards = open_dataset(str(tmp_path / "shards"), [PIXELS])
    np.testing.assert_array_equal(together(list(shards.batches(3)))[0], together(list(whole.batches(5)))[0])
    assert shards.digest == whole.digest == open_dataset(as_folder(tmp_path), [PIXELS]).digest
    assert open_dataset(str(tmp_path / "shards"), [PIXELS], ImageOptions(std=(2.0,))).digest != whole.digest
    assert all(map(is_made_of_images, (str(tmp_path / "shards"), str(tmp_path / "x.tar"))))


def test_what_the_library_writes(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "x.tar")) as writer:
        for number in range(COUNT):
            writer.write({"__key__": f"{number:04}", "png": encoded(number, tmp_path), "cls": number, "json": {"a": 1}})
    dataset = open_dataset(str(tmp_path / "x.tar"), [PIXELS])
    found, labels = together(list(dataset.batches(COUNT)))
    np.testing.assert_array_equal(labels, np.arange(COUNT))
    np.testing.assert_array_equal(found, together(list(open_dataset(as_folder(tmp_path), [PIXELS]).batches(5)))[0])


def linked(kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo("a.png")
    member.type, member.linkname = kind, "/etc/passwd"
    return member


HOSTILE: dict[str, tuple[list[tuple[Any, bytes]], str]] = {
    "a symbolic link": ([(linked(tarfile.SYMTYPE), b"")], "'a.png': not a file of 1 to"),
    "a hard link": ([(linked(tarfile.LNKTYPE), b"")], "'a.png': not a file of 1 to"),
    "a device": ([(linked(tarfile.CHRTYPE), b"")], "'a.png': not a file of 1 to"),
    "a fifo": ([(linked(tarfile.FIFOTYPE), b"")], "'a.png': not a file of 1 to"),
    "nothing": ([("a.png", b"")], "'a.png': not a file of 1 to"),
    "a pickle": ([("a.png", b"x"), ("a.pickle", pickle.dumps(1))], "'a.pickle': not the one image or label"),
    "two images": ([("a.png", b"x"), ("a.jpg", b"x")], "'a.jpg': not the one image or label"),
    "one name twice": ([("a.png", b"x"), ("a.png", b"x")], "'a.png': not the one image or label"),
    "a label of text": ([("a.png", b"x"), ("a.cls", b"cat")], "'a.cls': b'cat' is not a label"),
    "a long label": ([("a.png", b"x"), ("a.cls", b"1" * 5000)], "is not a label"),
    "a label alone": ([("a.cls", b"1")], "'a': a sample without an image"),
    "labels of some": ([("a.png", b"x"), ("a.cls", b"1"), ("b.png", b"x")], "some samples have labels, others none"),
    "no samples": ([(".hidden", b"x")], "a tar file without samples"),
    "no image": ([("a.png", b"no image")], "'a.png': cannot be read as an image"),
}


def test_sizes_below_0_end(tmp_path: Path) -> None:
    """tarfile would read the second member again and again, and keep each."""
    path = write(tmp_path / "x.tar", [("a.png", encoded(0, tmp_path)), ("b.png", b"")])
    content = bytearray(path.read_bytes())
    header = slice(at := content.index(b"b.png"), at + tarfile.BLOCKSIZE)
    content[at + 124 : at + 136] = (-tarfile.BLOCKSIZE).to_bytes(12, "big", signed=True)
    content[at + 148 : at + 156] = b" " * 8  # the checksum counts itself as spaces
    content[at + 148 : at + 156] = b"%06o\0 " % sum(content[header])
    path.write_bytes(content)
    refuse(path, "'b.png' has a size below 0", "write it again", [PIXELS])


def test_members_that_are_not_read_may_have_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = encoded(0, tmp_path)
    monkeypatch.setattr(tars, "LARGEST", len(picture))
    path = write(tmp_path / "x.tar", [("a.txt", b""), ("a.png", picture), ("a.json", picture + b"x")])
    assert open_dataset(str(path), [PIXELS]).samples == 1


@pytest.mark.parametrize("what", HOSTILE)
def test_refused_members(tmp_path: Path, what: str) -> None:
    members, words = HOSTILE[what]
    refuse(write(tmp_path / "x.tar", members), words, "", [PIXELS])


def test_paths_of_members_lead_nowhere(tmp_path: Path) -> None:
    absolute = str(tmp_path / "escaped.png")
    members = [(name, encoded(0, tmp_path)) for name in ("../../escaped.png", absolute, "a/../../b.png")]
    before = sorted(tmp_path.rglob("*"))
    path = write(tmp_path / "x.tar", members)
    assert len(list(open_dataset(str(path), [PIXELS]).batches(1))) == 3
    assert sorted(tmp_path.rglob("*")) == sorted([*before, path])


def test_a_member_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "LARGEST", 10)
    refuse(write(tmp_path / "x.tar", [("a.png", b"x" * 11)]), "not a file of 1 to 10 bytes", "plain files", [PIXELS])


def test_damaged_files(tmp_path: Path) -> None:
    whole = write(tmp_path / "x.tar", samples(tmp_path)).read_bytes()
    for content in (b"", b"no tar", whole[:300], whole[: len(encoded(0, tmp_path)) // 2 + 512]):
        (tmp_path / "x.tar").write_bytes(content)
        refuse(tmp_path / "x.tar", "", "", [PIXELS])
    with tarfile.open(write(tmp_path / "x.tar", samples(tmp_path))) as tar:
        third = tar.getmembers()[3].offset
    other_header = whole[:third] + b"x" * 512 + whole[third + 512 :]
    for content in (whole[:third], whole[: third + 100], other_header, whole + whole, whole + b"x" + bytes(3 << 20)):
        (tmp_path / "x.tar").write_bytes(content)
        refuse(tmp_path / "x.tar", "breaks off, or is damaged, behind", "as one tar", [PIXELS])
    write(tmp_path / "y.tar.gz", samples(tmp_path))
    refuse(tmp_path / "y.tar.gz", "data of an unknown kind", ".tar", [PIXELS])
    with tarfile.open(tmp_path / "z.tar", "w:gz") as tar:
        tar.add(tmp_path / "y.tar.gz", "a.png")
    refuse(tmp_path / "z.tar", "cannot be read as a tar file", "without compression", [PIXELS])
    refuse(write(tmp_path / "x.tar", samples(tmp_path)), "images need a model with one float input", ".npz", [X])
