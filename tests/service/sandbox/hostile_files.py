"""The files of the table of hostile inputs, each made on the spot, none larger than a few megabytes."""

import io
import stat
import struct
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def tiny(**changes: Any) -> onnx.ModelProto:
    """x [N, 4] → Gemm → Relu → Gemm → scores [N, 3]. changes: of the initializers, by name."""
    generator = np.random.default_rng(0)
    weights = {"u": generator.normal(size=(4, 6)), "w": generator.normal(size=(6, 3))}
    tensors = {name: numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()}
    nodes = [
        helper.make_node("Gemm", ["x", "u"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["a"], "relu"),
        helper.make_node("Gemm", ["a", "w"], ["scores"], "last"),
    ]
    return model(nodes, [*{**tensors, **changes}.values()])


def model(
    nodes: list[onnx.NodeProto],
    tensors: list[onnx.TensorProto] | None = None,
    x: list[Any] | None = None,
    **more: Any,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, x or ["N", 4])],
        [helper.make_tensor_value_info("scores", FLOAT, ["N", 3] if x is None else None)],
        tensors or [],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)


def averaging() -> onnx.ModelProto:
    """x [N, 4, any length], averaged over the length, into tiny()."""
    proto = tiny()
    proto.graph.node[0].input[0] = "mean"
    nodes = [helper.make_node("ReduceMean", ["x"], ["mean"], "mean", axes=[2], keepdims=0), *proto.graph.node]
    return model(nodes, [*proto.graph.initializer], ["N", 4, "L"])


def external(location: str, **entries: str) -> onnx.TensorProto:
    """The weight u [4, 6] of tiny(), stored elsewhere."""
    tensor = TensorProto(name="u", data_type=FLOAT, dims=[4, 6], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def sparse_external(location: str) -> onnx.ModelProto:
    """tiny() with a sparse weight whose values are stored elsewhere."""
    proto = tiny()
    sparse = proto.graph.sparse_initializer.add()
    sparse.dims.extend([4, 6])
    sparse.values.CopyFrom(external(location))
    sparse.values.name = "sparse"
    sparse.values.dims[:] = [1]
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([0], np.int64)))
    return proto


def aside(nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto]) -> onnx.ModelProto:
    """tiny(), its scores plus the scalar `more` of some nodes: a network that would convert, and has to run them."""
    proto = tiny()
    proto.graph.node[2].output[0] = "plain"
    added = helper.make_node("Add", ["plain", "more"], ["scores"], "add")
    return model([*proto.graph.node, *nodes, added], [*proto.graph.initializer, *tensors])


def shape_bomb(op: str, size: int = 1 << 40) -> onnx.ModelProto:
    """A model of a few bytes that asks for `size` floats."""
    tensors = [numpy_helper.from_array(np.array([size], np.int64), "size")]
    if op == "Expand":
        tensors.append(numpy_helper.from_array(np.ones(1, np.float32), "one"))
    inputs = ["one", "size"] if op == "Expand" else ["size"]
    total = helper.make_node("ReduceSum", ["big"], ["more"], "sum", keepdims=0)
    return aside([helper.make_node(op, inputs, ["big"], "bomb"), total], tensors)


def endless_loop() -> onnx.ModelProto:
    """A model with a Loop whose condition stays true."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Identity", ["carried"], ["carried_on"]),
        ],
        "body",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("carried", FLOAT, [])],
        [info("go_on", TensorProto.BOOL, []), info("carried_on", FLOAT, [])],
    )
    loop = helper.make_node("Loop", ["", "always", "zero"], ["more"], "loop", body=body)
    constants = {"always": np.array(True), "zero": np.array(0, np.float32)}
    return aside([loop], [numpy_helper.from_array(value, name) for name, value in constants.items()])


def billion_laughs(depth: int = 24, width: int = 8) -> onnx.ModelProto:
    """A model of functions that call the next one `width` times each: inlined, it has width^depth nodes."""
    functions = []
    for level in range(depth):
        op, domain = ("Neg", "") if level == depth - 1 else (f"F{level + 1}", "local")
        names = ["a", *(f"t{k}" for k in range(width - 1)), "b"]
        nodes = [helper.make_node(op, [names[k]], [names[k + 1]], domain=domain) for k in range(width)]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
        functions.append(helper.make_function("local", f"F{level}", ["a"], ["b"], nodes, opsets))
    return model([helper.make_node("F0", ["x"], ["scores"], "laugh", domain="local")], functions=functions)


def recursive_function() -> onnx.ModelProto:
    call = helper.make_node("F", ["a"], ["b"], domain="local")
    function = helper.make_function("local", "F", ["a"], ["b"], [call], [helper.make_opsetid("local", 1)])
    return model([helper.make_node("F", ["x"], ["scores"], "again", domain="local")], functions=[function])


def empty_nodes(megabytes: int = 10) -> bytes:
    """A model of nodes without an operator, two bytes each."""
    proto = tiny()
    body = proto.graph.SerializeToString() + b"\x0a\x00" * (megabytes << 19)
    proto.ClearField("graph")
    return proto.SerializeToString() + b"\x3a" + _varint(len(body)) + body


def nested_subgraphs(depth: int = 2000) -> bytes:
    """A model with an If in an If in an If, and so on."""
    inner = helper.make_node("Identity", ["x"], ["scores"]).SerializeToString()
    for _ in range(depth):
        graph = b"\x0a" + _varint(len(inner)) + inner  # GraphProto.node
        attribute = b"\x0a\x0bthen_branch\x32" + _varint(len(graph)) + graph + b"\xa0\x01\x05"  # AttributeProto.g
        inner = b"\x22\x02If\x2a" + _varint(len(attribute)) + attribute  # NodeProto.op_type, attribute
    proto = tiny()
    proto.graph.ClearField("node")
    body = proto.graph.SerializeToString() + b"\x0a" + _varint(len(inner)) + inner
    proto.ClearField("graph")
    return proto.SerializeToString() + b"\x3a" + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def zipped_member(name: str, content: bytes = b"", mode: int = stat.S_IFREG | 0o644) -> bytes:
    """A model's .zip with one more member, of any kind."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name that appears twice
        archive.writestr("model.onnx", tiny().SerializeToString())
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        info.external_attr = mode << 16
        archive.writestr(info, content)
    return buffer.getvalue()


def encrypted_zip() -> bytes:
    """A .zip whose directory says that its member is encrypted."""
    packed = bytearray(zipped({"model.onnx": tiny().SerializeToString()}))
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    return bytes(packed)


def zip_bomb(megabytes: int) -> bytes:
    """A .zip of zeros, which is a thousand times smaller than they are."""
    return zipped({"model.onnx": tiny().SerializeToString(), "zeros": b"\0" * (megabytes << 20)})


def lying_zip(claimed: int) -> bytes:
    """A .zip with a member of 4 MiB whose headers say that it has `claimed` bytes."""
    packed = bytearray(zip_bomb(4))
    true = struct.pack("<I", 4 << 20)
    assert packed.count(true) == 2  # in the member's own header, and in the directory
    return bytes(packed).replace(true, struct.pack("<I", claimed))


def npz(**arrays: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy_header(shape: tuple[int, ...], fortran: bool = False) -> bytes:
    return npy("<f4", shape, fortran)


def npy(kind: Any, shape: tuple[int, ...], fortran: bool = False) -> bytes:
    """The header of an .npy of any type and shape, and nothing behind it."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": fortran, "shape": shape})
    return buffer.getvalue()


def huge_npz(shape: tuple[int, ...], content: int, fortran: bool = False) -> bytes:
    """An .npz whose x has this shape by its header, and `content` bytes of zeros."""
    return zipped({"x.npy": npy_header(shape, fortran) + b"\0" * content})


def lying_npz(shape: tuple[int, ...]) -> bytes:
    """An .npz whose directory says that x has all bytes that its header asks for; it has four."""
    packed = bytearray(zipped({"x.npy": npy_header(shape) + b"\0" * 4}, zipfile.ZIP_STORED))
    return bytes(packed).replace(struct.pack("<I", len(npy_header(shape)) + 4), struct.pack("<I", 0xFFFFFF00))
