"""Files that are written: nothing is lost, whatever fails and whatever the targets are."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphpass import api
from graphpass.errors import DataError, GraphpassError, ModelError, OptionError, PlanError
from graphpass.files import PREFIX, replacing, require_targets, write_text
from graphpass.graph import model as graphs
from graphpass.graph.plan import load_plan, save_plan
from tests.public_names import images, network


def test_what_was_there_stays_until_all_is_written(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(target, OptionError) as staged:
        staged.write_text(f"half{1 / (staged.write_text('') or 0)}")
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]
    with replacing(target, OptionError) as staged:
        staged.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new" and os.listdir(tmp_path) == ["a.txt"]


def test_companions_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda one, two: (moved.append(Path(two).name), replace(one, two)))
    with replacing(tmp_path / "model", OptionError) as staged:
        staged.write_text("names model.data")
        staged.with_name("model.data").write_text("weights")
        staged.with_name("a").write_text("")
    assert moved == ["a", "model.data", "model"]


def test_a_file_keeps_its_mode_and_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "a.txt", tmp_path / "link"
    write_text("old", target, OptionError)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~_umask()
    target.chmod(0o640)
    link.symlink_to(target)
    write_text("new", link, OptionError)
    assert link.is_symlink() and target.read_text() == "new" and stat.S_IMODE(target.stat().st_mode) == 0o640


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_devices_and_pipes_are_written_to(tmp_path: Path) -> None:
    write_text("gone", "/dev/null", OptionError)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    os.mkfifo(pipe := tmp_path / "pipe")
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        require_targets([(pipe, [])], [])
        write_text("through", pipe, OptionError)
        assert reader.communicate()[0] == b"through" and stat.S_ISFIFO(pipe.stat().st_mode)


def test_what_is_written_beside_no_file_is_dropped_with_it(tmp_path: Path) -> None:
    """Also by a link. Beside any other device or pipe, it is refused."""
    (link := tmp_path / "nothing").symlink_to("/dev/null")
    os.mkfifo(pipe := tmp_path / "pipe")

    def write(target: str | Path) -> None:
        with replacing(target, ModelError) as staged:
            staged.write_text("names model.data")
            staged.with_name("model.data").write_text("weights")

    write("/dev/null")
    write(link)
    assert link.is_symlink() and sorted(os.listdir(tmp_path)) == ["nothing", "pipe"]
    with pytest.raises(ModelError, match="nothing can be written beside it"):
        write(pipe)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no files of this process have names")
def test_a_pipe_without_a_name_is_written_to(tmp_path: Path) -> None:
    """As /dev/stdout is one in `graphpass evaluate … --json /dev/stdout | jq`."""
    end, start = os.pipe()
    (link := tmp_path / "stdout").symlink_to(f"/proc/self/fd/{start}")
    for path in (link, Path(f"/proc/self/fd/{start}")):
        require_targets([(path, []), (path, [])], [])
        write_text("through", path, OptionError)
        assert os.read(end, 100) == b"through"
    os.close(start)
    os.close(end)


def test_sources_that_cannot_be_are_left_to_their_reader(tmp_path: Path) -> None:
    """As the external data of a model may be called anything."""
    require_targets([(tmp_path / "a.txt", [])], [tmp_path / "none", tmp_path / "a\0b", tmp_path / ("x" * 300)])


@pytest.mark.parametrize("path", ["no/such/a.txt", "file/a.txt", "a\0b", "x" * 300, ""])
def test_places_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for call in (lambda: require_targets([(Path(path), [])], []), lambda: write_text("", path, OptionError)):
        with pytest.raises(OptionError) as raised:
            call()
        assert raised.value.remedy
    assert os.listdir(tmp_path) == ["file"]


def test_targets_are_refused_that_are_read_or_written_twice(tmp_path: Path) -> None:
    source, folder = tmp_path / "a.onnx", tmp_path / "images"
    source.write_text("weights")
    folder.mkdir()
    (folder / "0.png").write_text("pixels")
    os.link(source, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(source)
    (tmp_path / "way").symlink_to(folder)
    os.link(folder / "0.png", tmp_path / "picture")
    for name in (
        "a.onnx",
        "hard",
        "soft",
        "images/../a.onnx",
        "images/0.png",
        "way/0.png",
        "picture",
        "images/new.onnx",
    ):
        with pytest.raises(OptionError, match=r"which is read"):
            require_targets([(tmp_path / name, [])], [source, folder])
        with pytest.raises(OptionError, match=r"which is read"):
            require_targets([(tmp_path / "b", [tmp_path / name])], [source, folder])
    (tmp_path / "to_c").symlink_to(tmp_path / "c")
    for one, two in (("c", "c"), ("c", "to_c"), ("c", "images/../c")):
        with pytest.raises(OptionError, match="which is written too"):
            require_targets([(tmp_path / one, []), (tmp_path / two, [])], [source])
    require_targets(
        [(tmp_path / "b", [tmp_path / "b.data"]), (tmp_path / "d", [])], [source, folder, tmp_path / "none"]
    )
    assert source.read_text() == "weights"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_what_is_write_protected_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    (tmp_path / "a").chmod(0o444)
    with pytest.raises(OptionError, match="write-protected"):
        require_targets([(tmp_path / "a", [])], [])
    tmp_path.chmod(0o555)
    with pytest.raises(OptionError, match="cannot be written"):
        require_targets([(tmp_path / "b", [])], [])
    tmp_path.chmod(0o755)


# through the public functions


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "ann.onnx")
    np.savez("images.npz", x=images()["x"])
    return tmp_path


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_conversion_overwrites_nothing_that_it_reads(folder: Path) -> None:
    done = api.convert("ann.onnx", "images.npz", time_steps=4)
    api.save_plan(done.plan, "plan.json")
    os.link("ann.onnx", "same.onnx")
    Path("link.onnx").symlink_to("ann.onnx")
    before = everything(folder)
    for output in ("ann.onnx", "same.onnx", "link.onnx", "images.npz", "./ann.onnx"):
        with pytest.raises(OptionError, match="which is read"):
            api.convert("ann.onnx", "images.npz", output)
    for output in ("plan.json", "plan.npz"):
        with pytest.raises(OptionError, match="which is read"):
            api.convert("ann.onnx", output=output, plan="plan.json")
    with pytest.raises(OptionError, match="which is read"):
        api.inline("ann.onnx", "ann.onnx")
    assert everything(folder) == before


def test_a_conversion_overwrites_no_external_data(folder: Path) -> None:
    onnx.save(network(), "big.onnx", save_as_external_data=True, location="snn.onnx.data", size_threshold=0)
    before = everything(folder)
    for output in ("snn.onnx", "snn.onnx.data"):
        with pytest.raises(OptionError, match=r"snn\.onnx\.data, which is read"):
            api.convert("big.onnx", "images.npz", output)
    assert everything(folder) == before


def test_targets_are_seen_before_the_data(folder: Path) -> None:
    """The data does not exist, and is not looked at."""
    with pytest.raises(OptionError, match="no: no such folder"):
        api.convert("ann.onnx", "none.npz", "no/snn.onnx")


def fails(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


WRITERS: dict[str, tuple[Callable[[Path], None], type[GraphpassError]]] = {
    "model": (lambda path: graphs.save(network(), path), ModelError),
    "plan": (lambda path: save_plan(api.convert(network(), images()).plan, path), PlanError),
    "text": (lambda path: write_text("text", path, DataError), DataError),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("where", ["os.replace", "os.fsync"])
def test_a_full_disk_leaves_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, where: str) -> None:
    write, error = WRITERS[kind]
    write(folder / "target.json")
    before = everything(folder)
    with monkeypatch.context() as broken:
        broken.setattr(where, fails)
        with pytest.raises(error, match=r"target\.json: cannot be written \(No space left on device\)"):
            write(folder / "target.json")
    assert everything(folder) == before
    assert not [path for path in folder.iterdir() if path.name.startswith(PREFIX)]


def test_large_models_go_to_two_files_in_one_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphpass.graph.tensors.LARGEST_PROTOBUF", 100)
    graphs.save(network(), folder / "big.onnx")
    assert sorted(each.name for each in folder.glob("big*")) == ["big.onnx"]  # tensors below a KiB stay in the file
    large = network()
    large.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(4096, np.float32), "unused"))
    graphs.save(large, folder / "big.onnx")
    assert sorted(each.name for each in folder.glob("big*")) == ["big.onnx", "big.onnx.data"]
    assert graphs.read(folder / "big.onnx").graph.initializer[-1].raw_data == large.graph.initializer[-1].raw_data


WRITE = """
import sys
from pathlib import Path
from graphpass.graph.plan import load_plan, save_plan
from graphpass.graph.model import read, save
folder = Path(sys.argv[1])
plan, proto = load_plan(folder / "plan.json"), read(folder / "model.onnx")
print("ready", flush=True)
while True:
    save_plan(plan, folder / "plan.json")
    save(proto, folder / "model.onnx")
"""


def test_a_process_that_is_killed_leaves_whole_files(folder: Path) -> None:
    done = api.convert("ann.onnx", "images.npz", "model.onnx")
    save_plan(done.plan, "plan.json")
    for attempt in range(8):
        with subprocess.Popen([sys.executable, "-c", WRITE, folder], stdout=subprocess.PIPE) as writer:
            assert writer.stdout and writer.stdout.readline() == b"ready\n"
            time.sleep(0.003 * (attempt + 1))
            writer.send_signal(signal.SIGKILL)
        assert graphs.read(folder / "model.onnx") == done.proto
        assert load_plan(folder / "plan.json").sites[0].name == "relu"
