"""Every row of the table of hostile inputs, with what exactly comes of it. The table is in docs/service.md."""

import io
import json
import os
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from graphpass.errors import ModelError
from service.sandbox.bounds import NAME, RESULT, SUMMARY, TEXT, WHOLE
from service.sandbox.limits import LEAST_MEMORY, Limits
from service.sandbox.models import _check_external_data
from service.sandbox.runner import Failed, Succeeded
from tests.service.sandbox.hostile_files import (
    averaging,
    billion_laughs,
    empty_nodes,
    encrypted_zip,
    endless_loop,
    external,
    huge_npz,
    lying_npz,
    lying_zip,
    model,
    nested_subgraphs,
    npy,
    npz,
    recursive_function,
    shape_bomb,
    sparse_external,
    tiny,
    zip_bomb,
    zipped,
    zipped_member,
)
from tests.service.sandbox.sandboxed import SMALL, Box

TINY = tiny().SerializeToString()
SAMPLES = npz(x=np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32))


def refused(outcome: Succeeded | Failed, kind: str, rule: str, where: str = "file") -> None:
    assert isinstance(outcome, Failed), outcome
    assert (outcome.type, outcome.where) == (kind, where) and rule in outcome.what, outcome
    assert "/in/" not in outcome.what and "/tmp" not in outcome.what and outcome.remedy


def describe(box: Box, content: bytes, name: str = "model.onnx") -> Succeeded | Failed:
    return box.run("describe_model", {"file": box.put(name, content)})


def convert(box: Box, content: bytes, data: bytes = SAMPLES) -> Succeeded | Failed:
    names = {"model": box.put("model.onnx", content), "calibration": box.put("data.npz", data)}
    return box.run("convert", names)


# models: external data

OUTSIDE = "is absolute, or lies outside of the model's folder"


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("location", "rule"),
    [
        ("../secret", OUTSIDE),
        ("data/../../secret", OUTSIDE),
        ("/etc/passwd", OUTSIDE),
        ("C:\\secret", OUTSIDE),
        ("", OUTSIDE),
        ("a/_ORT_MEM_ADDR_/b", "is an address in memory"),
        ("absent.bin", "is missing"),
    ],
)
def test_external_data_elsewhere(box: Box, location: str, rule: str) -> None:
    packed = zipped({"model.onnx": tiny(u=external(location)).SerializeToString()})
    refused(describe(box, packed, "model.zip"), "invalid-model", rule)


@pytest.mark.parametrize(
    ("entries", "rule"),
    [
        ({"offset": "80", "length": "96"}, "ends early"),
        ({"offset": "-8"}, "ends early"),
        ({"length": "many"}, "no number"),
    ],
)
def test_external_data_of_a_lying_length(box: Box, entries: dict[str, str], rule: str) -> None:
    proto = tiny(u=external("w.bin", **entries))
    packed = zipped({"model.onnx": proto.SerializeToString(), "w.bin": b"\0" * 96})
    refused(describe(box, packed, "model.zip"), "invalid-model", rule)


def test_external_data_of_a_sparse_tensor(box: Box) -> None:
    packed = zipped({"model.onnx": sparse_external("w.bin").SerializeToString(), "w.bin": b"\0" * 96})
    refused(describe(box, packed, "model.zip"), "invalid-model", "a sparse tensor may have none")


def test_external_data_without_an_archive(box: Box) -> None:
    """Nothing else of in is within reach of a model, not even another file of the same user."""
    box.put("w.bin", b"\0" * 96)
    content = tiny(u=external("w.bin")).SerializeToString()
    refused(describe(box, content), "invalid-model", "the model came without it")


@pytest.mark.parametrize("kind", ["symbolic link", "hard link"])
def test_external_data_that_is_a_link(tmp_path: Path, kind: str) -> None:
    """No archive unpacks to one; should one be there all the same, it is seen."""
    (tmp_path / "secret").write_bytes(b"\0" * 96)
    (folder := tmp_path / "model").mkdir()
    (folder / "model.onnx").write_bytes(tiny(u=external("w.bin")).SerializeToString())
    if kind == "symbolic link":
        (folder / "w.bin").symlink_to(tmp_path / "secret")
    else:
        (folder / "w.bin").hardlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match=f"is a {kind}"):
        _check_external_data(folder / "model.onnx", packed=True)


# models: what they make the runtime do


@pytest.mark.some(1)
@pytest.mark.parametrize("op", ["ConstantOfShape", "Expand"])
def test_shape_bomb(box: Box, op: str) -> None:
    for size in (1 << 29, 1 << 40):
        refused(convert(box, shape_bomb(op, size).SerializeToString()), "memory-limit", "1 GiB", "memory_bytes")


@pytest.mark.some(1)
@pytest.mark.parametrize(
    ("content", "task"),
    [
        (lambda: endless_loop().SerializeToString(), "convert"),
        (lambda: billion_laughs().SerializeToString(), "describe"),
        (empty_nodes, "describe"),
    ],
    ids=["infinite loop", "billion laughs", "ten megabytes of empty nodes"],
)
def test_endless_work(box: Box, content, task: str) -> None:
    box.limits = replace(SMALL, wall_seconds=3)
    outcome = convert(box, content()) if task == "convert" else describe(box, content())
    refused(outcome, "time-limit", "3 seconds", "wall_seconds")


def test_endless_work_ends_by_processor_time_too(box: Box) -> None:
    box.limits = replace(SMALL, cpu_seconds=2)
    outcome = convert(box, endless_loop().SerializeToString())
    refused(outcome, "time-limit", "2 seconds of processor time", "cpu_seconds")


def test_nested_subgraphs(box: Box) -> None:
    refused(describe(box, nested_subgraphs(2000)), "invalid-model", "MaxDepth")


def test_recursive_function(box: Box) -> None:
    content = recursive_function().SerializeToString()
    refused(describe(box, content), "invalid-model", "Model-local functions must not be recursive")


def test_unknown_operator(box: Box) -> None:
    for domain, kind in (("acme", "unsupported-model"), ("", "unsupported-model"), ("com.microsoft", "invalid-model")):
        node = helper.make_node("Foo", ["x"], ["scores"], "foo", domain=domain)
        refused(describe(box, model([node]).SerializeToString()), kind, "Foo")


@pytest.mark.some(2)
@pytest.mark.parametrize("content", [b"", b"hello" * 100, b"\x08\x08", TINY[:-40], b"\x93NUMPY", os.urandom(4096)])
def test_no_model(box: Box, content: bytes) -> None:
    refused(describe(box, content), "invalid-model", "model.onnx")


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
        (zipped_member("model.onnx", TINY), "invalid-model", "is there twice"),
        (encrypted_zip(), "invalid-model", "is encrypted"),
        (zipped({"model.onnx": TINY}, zipfile.ZIP_LZMA), "invalid-model", "is neither stored nor deflated"),
        (lying_zip(100), "invalid-model", "is damaged"),
        (lying_zip(16 << 20), "invalid-model", "is damaged"),
        (zip_bomb(1)[:-50], "invalid-model", "not a readable .zip"),
        (zipped({}), "invalid-model", "holds 0 .onnx files"),
        (zipped({"a.onnx": TINY, "b.onnx": TINY}), "invalid-model", "holds 2 .onnx files"),
        (zipped({f"{k}": b"" for k in range(20_000)}), "invalid-model", "20000 files, at most 1000"),
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
        refused(outcome, "invalid-data", "'x' holds pickled Python objects")
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], object))
    outcome = box.run("describe_dataset", {"file": box.put("data.npy", buffer.getvalue())})
    refused(outcome, "invalid-data", "holds pickled Python objects")


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
    why = "'x.npy' cannot be 4294967040 bytes, packed to"
    refused(outcome, "invalid-data", why)
    refused(convert(box, TINY, lying_npz((1 << 39, 4))), "invalid-data", why, "calibration")


@pytest.mark.some(1)
@pytest.mark.parametrize("fortran", [False, True])
def test_npz_bomb(box: Box, fortran: bool) -> None:
    """512 MiB of one sample, in half a megabyte."""
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


def test_the_least_memory_is_enough_to_say_so(box: Box) -> None:
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
def test_samples_that_no_byte_stands_for(box: Box, kind: str, shape: tuple[int, ...], name: str) -> None:
    array = npy(kind, shape)
    content = {"data.npy": array, "data.npz": zipped({"x.npy": array})}.get(name)
    content = content or zipped({"a.npz": zipped({"x.npy": array})})
    outcome = box.run("describe_dataset", {"file": box.put(name, content)})
    assert isinstance(outcome, Failed) and outcome.type == "invalid-data" and outcome.remedy, outcome
    assert "hold no values" in outcome.what or "has shape (-1, 4)" in outcome.what


@pytest.mark.some(2)
@pytest.mark.parametrize("kind", ["<U3", "|S5", "<M8[s]", "<c8", "|V4", [("a", "<f4")]])
def test_arrays_that_are_no_numbers(box: Box, kind: object) -> None:
    """No model takes them, and no label is one."""
    outcome = box.run("describe_dataset", {"file": box.put("data.npy", npy(kind, (3,)) + bytes(100))})
    refused(outcome, "invalid-data", "'array' is ")


LONG = 4 << 20  # characters of a name


def named(name: str) -> bytes:
    """tiny() with a node of this name."""
    proto = tiny()
    proto.graph.node[1].name = name
    return proto.SerializeToString()


def test_long_names_are_described_in_short_and_kept_whole(box: Box) -> None:
    outcome = describe(box, named("n" * LONG))
    assert isinstance(outcome, Succeeded), outcome
    assert len(json.dumps(outcome.result)) <= SUMMARY and outcome.result["omitted"]["characters"] >= LONG - NAME
    assert "characters left out" in outcome.result["sites"][0]["name"]
    whole = json.loads((box.folder / "out" / "description.json").read_text())
    assert len(json.dumps(whole)) <= WHOLE and len(whole["sites"][0]["name"]) == 1 << 20
    assert [entry for entry in whole if entry != "omitted"] == [each for each in outcome.result if each != "omitted"]


def test_many_sites_are_described_by_the_first_and_a_count(box: Box) -> None:
    nodes, last = [], "x"
    for number in range(300):
        nodes.append(helper.make_node("MatMul", [last, "w"], [f"g{number}"], f"layer {number}"))
        nodes.append(helper.make_node("Relu", [f"g{number}"], [f"r{number}"], f"relu {number}"))
        last = f"r{number}"
    nodes.append(helper.make_node("MatMul", [last, "w"], ["scores"], "last"))
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    outcome = describe(box, model(nodes, [weight], ["N", 4]).SerializeToString())
    assert isinstance(outcome, Succeeded), outcome
    found = outcome.result
    assert len(json.dumps(found)) <= SUMMARY and found["spiking_layers"] == 300
    assert len(found["sites"]) + found["omitted"]["sites"] == 300 and len(found["sites"]) > 100
    whole = json.loads((box.folder / "out" / "description.json").read_text())
    assert len(whole["sites"]) == 300 and whole["sites"][: len(found["sites"])] == found["sites"]
    assert "omitted" not in whole


def test_what_should_have_been_converted_comes_first_in_a_description(box: Box) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("MatMul", ["b", "w"], ["c"], "second"),
        helper.make_node("Unsqueeze", ["c", "axis"], ["d"], "sequence"),
        helper.make_node("RNN", ["d", "u", "u"], ["", "scores"], "recurrent", hidden_size=4),
    ]
    tensors = {"w": np.eye(4, dtype=np.float32), "u": np.eye(4, dtype=np.float32)[None], "axis": np.array([0])}
    proto = model(nodes, [numpy_helper.from_array(value, name) for name, value in tensors.items()], ["N", 4])
    outcome = describe(box, proto.SerializeToString())
    assert isinstance(outcome, Succeeded), outcome
    told = [(entry["node"], entry["expected"]) for entry in outcome.result["left"]]
    assert told == [("recurrent", False), ("first", True)]


def test_an_error_is_as_long_as_people_read(box: Box) -> None:
    proto = tiny()
    proto.graph.node[1].name, proto.graph.node[1].op_type = "n" * LONG, "NoSuchOperator"
    outcome = describe(box, proto.SerializeToString())
    assert isinstance(outcome, Failed) and len(outcome.what) <= TEXT and len(outcome.remedy) <= TEXT
    outcome = box.run("convert", {"model": box.put("m.onnx", TINY), "options": {"x" * LONG: 1}})
    assert isinstance(outcome, Failed) and len(outcome.what) <= TEXT


def test_warnings_are_as_few_as_a_result_has_room_for(box: Box) -> None:
    """A conversion of many sites, its warnings and notes included, is a summary; the whole is beside it."""
    proto = tiny()
    proto.graph.node[1].name = "n" * 100_000
    outcome = convert(box, proto.SerializeToString())
    assert isinstance(outcome, Succeeded), outcome
    assert len(json.dumps(outcome.result)) <= RESULT and outcome.result["omitted"]["characters"] > 90_000
    assert len(outcome.result["sites"][0]) <= NAME
    whole = json.loads((box.folder / "out" / "result.json").read_text())
    assert whole["sites"] == ["n" * 100_000] and "omitted" not in whole
    assert all(len(event.get("stage", "")) <= 100 for event in box.events)


SITES = (
    '[{"name": "relu", "kind": "relu", "input": "h", "output": "a", "layers": ["last"], "levels": 5, '
    '"lowest": 0, "highest": 4}]'
)


@pytest.mark.some(4)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("sites", text) for text in ("5", "null", '"x"', "[1]", "[{}]", '{"a": 1}', "[" * 100_000, "", "NaN")),
        ("sites", SITES.replace('"last"', '{"a": 1}')),
        ("sites", SITES.replace('"relu"', '["relu"]', 1)),
        ("sites", SITES.replace(": 4}", ": Infinity}")),
        *(("left", text) for text in ("5", "[1]", '[{"node": 1}]', "[[[]]]")),
        ("left", '[{"node": NaN, "op": {}, "reason": NaN, "expected": "no"}]'),
        *(("time_steps", text) for text in ("0", "-4", "1e3", "9" * 5000, "\u0664", "")),
        ("levels", "-1"),
        ("coding", "phase"),
        ("coding", "\0"),
    ],
)
def test_metadata_of_a_spiking_network_that_is_not_what_graphpass_writes(box: Box, key: str, value: str) -> None:
    """JSON or not: the file is described, or its fault is named; it is never the service's."""
    proto = tiny()
    written = {"version": "1", "time_steps": "4", "coding": "rate", "levels": "5", "method": "max", "form": "folded"}
    written |= {"model_sha256": "0" * 64, "data_sha256": "", "sites": SITES, "left": "[]"}
    for name, text in {**written, key: value}.items():
        proto.metadata_props.add(key=f"graphpass.{name}", value=text)
    outcome = describe(box, proto.SerializeToString())
    if isinstance(outcome, Failed):
        refused(outcome, "invalid-model", "")
    else:
        assert json.loads(json.dumps(outcome.result, allow_nan=False)) == outcome.result
