"""Names that no source has are refused with a remedy."""

import os
from pathlib import Path

import pytest

from graphpass.datasets.sources import is_made_of_images
from tests.sources import PIXELS, X, refuse, save_code, save_image


def test_refused_names(tmp_path: Path) -> None:
    refuse(tmp_path / "none.npz", "no such file or folder", "use .npz, .npy", [X])
    refuse("\0", "no such file", "use .npz", [X])
    (tmp_path / "d.csv").write_text("1,2")
    refuse(tmp_path / "d.csv", "data of an unknown kind", "use .npz, .npy", [X])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".DS_Store").write_text("hidden")
    refuse(tmp_path / "folder", "neither shards nor images", "use .npz, .npy", [X])


def test_refused_python_files(tmp_path: Path) -> None:
    path = save_code(tmp_path, "").removesuffix(":batches")
    refuse(path, "which function yields the data?", f"write {path}:function", [X])
    refuse(tmp_path / "none.py:batches", "no such file", "use", [X], str(tmp_path / "none.py"))


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".parquet", ".arrow", ".tar", ".py:batches"])
def test_pipes_and_devices_are_not_waited_for(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(pipe := tmp_path / f"pipe{suffix.partition(':')[0]}")
    given = f"{tmp_path / 'pipe'}{suffix}"
    assert not is_made_of_images(given)
    refuse(given, "neither a file nor a folder", "use .npz, .npy", [X], str(pipe))


@pytest.mark.parametrize("name", ["b.npz", "b.png", "c/b.png", "b.tar", "b.parquet"])
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file_in_a_folder(tmp_path: Path, name: str, linked: bool) -> None:
    special = tmp_path / "data" / name
    save_image(special.with_name("a.png"))
    if linked:
        special.symlink_to(tmp_path / "nowhere")
    else:
        os.mkfifo(special)
    refuse(tmp_path / "data", "neither a file nor a folder", "move it out", [PIXELS], str(special))
