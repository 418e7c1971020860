"""Names that no source has are refused with a remedy."""

from pathlib import Path

from tests.sources import X, refuse, save_code


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
