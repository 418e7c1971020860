"""Hostile models of the table in docs/service.md, with what exactly comes of each."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from onnx import helper

from graphpass.errors import ModelError
from service.sandbox.models import _check_external_data
from tests.service.sandbox.hostile_files import (
    billion_laughs,
    empty_nodes,
    endless_loop,
    external,
    model,
    nested_subgraphs,
    recursive_function,
    shape_bomb,
    sparse_external,
    tiny,
    zipped,
)
from tests.service.sandbox.sandboxed import SMALL, TINY, Box, convert, describe, refused

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
    """A model reaches no other file of the input folder, even one of the same user."""
    box.put("w.bin", b"\0" * 96)
    content = tiny(u=external("w.bin")).SerializeToString()
    refused(describe(box, content), "invalid-model", "the model came without it")


@pytest.mark.parametrize("kind", ["symbolic link", "hard link"])
def test_external_data_that_is_a_link(tmp_path: Path, kind: str) -> None:
    """No archive unpacks to a link; should there be one all the same, it is refused."""
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
        (empty_nodes, "describe"),
    ],
    ids=["infinite loop", "ten megabytes of empty nodes"],
)
def test_endless_work(box: Box, content, task: str) -> None:
    box.limits = replace(SMALL, wall_seconds=3)
    outcome = convert(box, content()) if task == "convert" else describe(box, content())
    refused(outcome, "time-limit", "3 seconds", "wall_seconds")


def test_functions_that_stand_for_too_many_nodes_are_not_inlined(box: Box) -> None:
    refused(describe(box, billion_laughs().SerializeToString()), "unsupported-model", "more than 1,000,000 nodes")


def test_endless_work_ends_by_processor_time_too(box: Box) -> None:
    box.limits = replace(SMALL, cpu_seconds=2)
    outcome = convert(box, endless_loop().SerializeToString())
    refused(outcome, "time-limit", "2 seconds of processor time", "cpu_seconds")


def test_nested_subgraphs(box: Box) -> None:
    refused(describe(box, nested_subgraphs(2000)), "invalid-model", "MaxDepth")


def test_recursive_function(box: Box) -> None:
    content = recursive_function().SerializeToString()
    refused(describe(box, content), "invalid-model", "function 'F' of domain 'local' calls itself")


def test_unknown_operator(box: Box) -> None:
    for domain, kind in (("acme", "unsupported-model"), ("", "unsupported-model"), ("com.microsoft", "invalid-model")):
        node = helper.make_node("Foo", ["x"], ["scores"], "foo", domain=domain)
        refused(describe(box, model([node]).SerializeToString()), kind, "Foo")


def test_texts_that_are_not_utf8(box: Box) -> None:
    content = model([helper.make_node("MARK", ["x"], ["scores"])]).SerializeToString().replace(b"MARK", b"\xff\xfe\r\n")
    refused(describe(box, content), "invalid-model", "is not UTF-8 (NodeProto.op_type)")


@pytest.mark.some(2)
@pytest.mark.parametrize("content", [b"", b"hello" * 100, b"\x08\x08", TINY[:-40], b"\x93NUMPY", os.urandom(4096)])
def test_no_model(box: Box, content: bytes) -> None:
    refused(describe(box, content), "invalid-model", "model.onnx")
