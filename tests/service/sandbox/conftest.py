"""Boxes for the tests: an empty one, and one with a network and data."""

from pathlib import Path

import pytest

from tests.service.sandbox.sandboxed import CALIBRATION, LABELLED, TINY, Box, outputs


@pytest.fixture
def box(tmp_path: Path) -> Box:
    (folder := tmp_path / "box" / "in").mkdir(parents=True)
    return Box(folder.parent)


@pytest.fixture
def laid(box: Box) -> Box:
    """A box with a network and data of both kinds, each in a folder of its role, as the service lays them out."""
    for name, content in (("ann/net.onnx", TINY), ("data/some.npz", CALIBRATION), ("data/test.npz", LABELLED)):
        box.put(name, content)
    return box


@pytest.fixture
def pair(laid: Box) -> dict[str, str]:
    laid.result("convert", {"model": "ann/net.onnx", "calibration": "data/some.npz", "options": {"time_steps": 4}})
    laid.put("snn/snn.onnx", outputs(laid)["snn.onnx"])
    return {"ann": "ann/net.onnx", "snn": "snn/snn.onnx", "dataset": "data/test.npz"}
