"""Models and data as the sandbox describes them, and data of every kind in a conversion."""

import io
import json
import tarfile
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from service.sandbox.runner import Failed
from tests.service.sandbox.hostile_files import external, model, npz, tiny, zipped
from tests.service.sandbox.sandboxed import CALIBRATION, TINY, Box, outputs


def test_describe_a_model(laid: Box) -> None:
    found = laid.result("describe_model", {"file": "ann/net.onnx"})
    assert found["inputs"] == [{"name": "x", "dtype": "float32", "shape": [None, 4]}]
    assert (found["outputs"], found["opset"], found["nodes"], found["parameters"]) == (["scores"], 17, 3, 42)
    assert found["sites"] == [{"name": "relu", "kind": "relu", "axis": -1, "layers": ["last"]}]
    assert (found["spiking_layers"], found["weight_layers"], found["spiking"]) == (1, 2, None)
    assert found["left"][0]["node"] == "first" and found["left"][0]["expected"]


@pytest.mark.some(1)
@pytest.mark.parametrize("form", ["folded", "unrolled", "integer"])
def test_describe_a_converted_model(laid: Box, form: str) -> None:
    options = {"form": form, "time_steps": 4}
    laid.result("convert", {"model": "ann/net.onnx", "calibration": "data/some.npz", "options": options})
    laid.put("snn.onnx", outputs(laid)["snn.onnx"])
    found = laid.result("describe_model", {"file": "snn.onnx"})
    origin = laid.result("describe_model", {"file": "ann/net.onnx"})["digest"]
    known = {"time_steps": 4, "coding": "rate", "levels": 5, "method": "optimal", "form": form, "precision": "source"}
    known["target"] = "onnxruntime"
    assert found["spiking"] == {**known, "model_sha256": origin}
    assert [site["name"] for site in found["sites"]] == ["relu"]
    outcome = laid.run("convert", {"model": "snn.onnx", "calibration": "data/some.npz"})
    assert isinstance(outcome, Failed) and outcome.where == "model"


def test_a_model_with_external_data(box: Box) -> None:
    """It is in an archive with a folder at its top, and converts to the bytes of the same model in one file."""
    weights = onnx.numpy_helper.to_array(tiny().graph.initializer[0]).tobytes()
    proto = tiny(u=external("weights/u.bin", offset="4", length="96"))
    packed = {"net/net.onnx": proto.SerializeToString(), "net/weights/u.bin": b"1234" + weights}
    box.put("net.zip", zipped({**packed, "__MACOSX/net/._net.onnx": b"", "net/.DS_Store": b""}))
    box.put("net.onnx", TINY)
    box.put("data.npz", CALIBRATION)
    plans = []
    for name in ("net.zip", "net.onnx"):
        box.result("convert", {"model": name, "calibration": "data.npz"})
        plans.append(json.loads(outputs(box)["plan.json"]))
    assert plans[0]["sites"] == plans[1]["sites"] and plans[0]["model_sha256"] != plans[1]["model_sha256"]


def image(value: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 8), (value, 0, 255 - value)).save(buffer, kind)
    return buffer.getvalue()


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


SHARDS = {
    "b.npz": npz(x=np.ones((3, 4), np.float32), labels=np.arange(3)),
    "a.npz": npz(x=np.zeros((2, 4), np.float32), labels=np.arange(2)),
}


def tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def parquet(**columns: Any) -> bytes:
    arrow, buffer = pytest.importorskip("pyarrow"), io.BytesIO()
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), buffer)
    return buffer.getvalue()


IMAGES = {"cat/1.png": image(1), "cat/2.jpg": image(9, "JPEG"), "dog/1.png": image(200), "dog/.hidden": b""}
X = {"dtype": "float32", "shape": [5, 4]}


@pytest.mark.some(3)
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (npz(x=np.ones((5, 4), np.float32)), {"kind": "npz", "samples": 5, "labels": False, "arrays": {"x": X}}),
        (npy(np.ones((5, 4), np.float32)), {"kind": "npy", "samples": 5, "labels": False, "arrays": {"array": X}}),
        (
            zipped(SHARDS),
            {
                "kind": "shards",
                "samples": 5,
                "labels": True,
                "arrays": {"x": X, "labels": {"dtype": "int64", "shape": [5]}},
            },
        ),
        (zipped({f"data/{name}": content for name, content in SHARDS.items()}), {"kind": "shards", "samples": 5}),
        (
            zipped(IMAGES),
            {"kind": "images", "samples": 3, "labels": True, "arrays": {}, "classes": ["cat", "dog"]},
        ),
        (zipped({f"all/of/it/{name}": content for name, content in IMAGES.items()}), {"samples": 3, "labels": True}),
        (zipped({"cat/1.png": image(1)}), {"samples": 1, "classes": ["cat"]}),
        (zipped({"1.png": image(1), "2.png": image(2)}), {"samples": 2, "labels": False, "classes": []}),
    ],
    ids=["npz", "npy", "shards", "shards in a folder", "images", "images in folders", "one class", "no classes"],
)
def test_describe_data(box: Box, content: bytes, expected: dict[str, Any]) -> None:
    """The bytes say what a file is; its name says nothing."""
    found = box.result("describe_dataset", {"file": box.put("data", content)})
    assert {key: found[key] for key in expected} == expected


def test_describe_data_for_a_model(box: Box) -> None:
    box.put("net.onnx", TINY)
    found = box.result("describe_dataset", {"file": box.put("x.npy", npy(np.ones((5, 4)))), "model": "net.onnx"})
    assert found == {"kind": "npy", "samples": 5, "labels": False, "arrays": {"x": X}}
    pool = onnx.helper.make_node("GlobalAveragePool", ["x"], ["scores"], "pool")
    box.put("pool.onnx", model([pool], x=["N", 3, "H", "W"]).SerializeToString())
    arguments = {"file": box.put("photos.zip", zipped(IMAGES)), "model": "pool.onnx", "options": {"image_size": 6}}
    found = box.result("describe_dataset", arguments)
    assert found["arrays"] == {"x": {"dtype": "float32", "shape": [3, 3, 6, 6]}} and found["labels"]
    outcome = box.run("describe_dataset", {"file": "photos.zip", "model": "net.onnx"})
    assert isinstance(outcome, Failed) and outcome.what.startswith("photos.zip: images need a model")


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (zipped({**SHARDS, "c.npz": npz(y=np.ones((3, 4)))}), "arrays of other names, shapes or types than in"),
        (zipped({**SHARDS, "readme.txt": b""}), "readme.txt: not an .npz shard"),
        (zipped({**IMAGES, "cat/notes.txt": b""}), "notes.txt: not an image"),
        (npz(x=np.ones((3, 4)), labels=np.arange(2)), "arrays of 2, 3 samples"),
        (npz(x=np.ones((0, 4))), "no samples"),
        (npz(x=np.float32(1)), "no axis of samples"),
        (npz(), "neither shards nor images"),
        (zipped({"a.npz": b"PK\x03\x04"}), "a.npz: cannot be read as .npz"),
        (zipped({"notes.txt": b""}), "neither shards nor images"),
    ],
)
def test_data_that_does_not_fit(box: Box, content: bytes, rule: str) -> None:
    outcome = box.run("describe_dataset", {"file": box.put("data.zip", content)})
    assert isinstance(outcome, Failed) and outcome.type == "invalid-data" and rule in outcome.what, outcome


def test_arrays_may_have_any_name(box: Box) -> None:
    """Inputs of networks may have any name; members of an .npz are not unpacked."""
    content = npz(**{"/model/x:0": np.ones((2, 4)), "../y": np.ones((2, 3))})
    found = box.result("describe_dataset", {"file": box.put("data.npz", content)})
    assert set(found["arrays"]) == {"/model/x:0", "../y"}


def test_calibration_may_spill(box: Box) -> None:
    """Beyond its memory budget a calibration writes to its own scratch folder."""
    box.put("net.onnx", TINY)
    data = npz(x=np.random.default_rng(7).normal(size=(60_000, 4)).astype(np.float32))
    arguments = {"model": "net.onnx", "calibration": box.put("data.npz", data)}
    assert box.result("convert", {**arguments, "options": {"memory_budget": 1 << 20}})["samples"] == 60_000


def test_images_and_shards_calibrate(box: Box) -> None:
    box.put("net.onnx", TINY)
    found = box.result("convert", {"model": "net.onnx", "calibration": box.put("shards.zip", zipped(SHARDS))})
    assert found["samples"] == 5
    nodes = [onnx.helper.make_node("GlobalAveragePool", ["x"], ["p"], "pool")]
    nodes.append(onnx.helper.make_node("Flatten", ["p"], ["f"], "flatten"))
    network = tiny()
    network.graph.node[0].input[0] = "f"
    network.graph.initializer[0].dims[:] = [3, 8]
    network.graph.initializer[1].dims[:] = [8, 2]
    for tensor, size in zip(network.graph.initializer, (24, 16), strict=True):
        tensor.raw_data = np.linspace(-1, 1, size, dtype=np.float32).tobytes()
    proto = model([*nodes, *network.graph.node], [*network.graph.initializer], ["N", 3, 8, 8])
    box.put("images.onnx", proto.SerializeToString())
    arguments = {"model": "images.onnx", "calibration": box.put("photos.zip", zipped(IMAGES))}
    assert box.result("convert", {**arguments, "options": {"mean": [0.5, 0.4, 0.3], "std": 0.2}})["samples"] == 3


TAR = {"1.png": image(1), "1.cls": b"0", "2.jpg": image(200, "JPEG"), "2.cls": b"1", "2.json": b"{}"}


def table() -> bytes:
    return parquet(image=[{"bytes": image(1), "path": "a"}, {"bytes": image(200), "path": None}], label=[0, 1])


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_images_in_one_file_are_prepared_as_asked(box: Box, kind: str) -> None:
    """Of whatever name, by preset or by the configuration of a processor; also where the task is confined."""
    box.put("data", tar(TAR) if kind == "tar" else table())
    found = box.result("describe_dataset", {"file": "data"})
    known = {"kind": kind, "samples": 2, "labels": True, "arrays": {}, "classes": []}
    assert {key: found[key] for key in known} == known
    nodes = [
        onnx.helper.make_node("GlobalAveragePool", ["x"], ["p"], "pool"),
        onnx.helper.make_node("Flatten", ["p"], ["f"], "flat"),
        onnx.helper.make_node("Gemm", ["f", "a"], ["h"], "first"),
        onnx.helper.make_node("Relu", ["h"], ["r"], "relu"),
        onnx.helper.make_node("Gemm", ["r", "b"], ["scores"], "last"),
    ]
    weights = {"a": np.eye(3, dtype=np.float32), "b": np.ones((3, 2), np.float32)}
    tensors = [onnx.numpy_helper.from_array(values, name) for name, values in weights.items()]
    box.put("net.onnx", model(nodes, tensors, ["N", 3, 6, 6]).SerializeToString())
    config = {"size": {"height": 6, "width": 6}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    digests = set()
    for options in ({}, {"preset": "imagenet"}, {"preprocess": config}):
        box.result("convert", {"model": "net.onnx", "calibration": "data", "options": {"method": "max", **options}})
        digests.add(json.loads(outputs(box)["plan.json"])["data_sha256"])
    assert len(digests) == 3
    outcome = box.run("convert", {"model": "net.onnx", "calibration": "data", "options": {"preprocess": {"size": 6}}})
    assert isinstance(outcome, Failed) and "'image_mean' is None" in outcome.what


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (lambda: tar({"1.png": image(1), "1.pickle": b"x"}), "'1.pickle': not the one image or label"),
        (lambda: tar(TAR)[:700], "cannot be read as a tar file"),
        (lambda: parquet(x=[1.0, 2.0]), "a table without a column of images"),
        (lambda: table()[:200], "cannot be read as a table"),
        (lambda: zipped({"1.tar": tar(TAR)}), "a .zip of .tar files"),
    ],
)
def test_refused_files_of_images(box: Box, content: Any, rule: str) -> None:
    outcome = box.run("describe_dataset", {"file": box.put("data", content())})
    assert isinstance(outcome, Failed) and rule in outcome.what
