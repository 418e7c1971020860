"""Padding in front of a convolution."""

import numpy as np
import pytest

from tests.models import build, node
from tests.passes.checking import check, reasons


def padded_conv(*pad_inputs, pads=(0, 0, 1, 2, 0, 0, 3, 0), **attributes):
    return build(
        [node("Pad", f"x pads {' '.join(pad_inputs)}", "p", "pad", **attributes.pop("pad", {})),
         node("Conv", "p w", "y", "conv", **attributes)],
        {"x": ["N", 2, 6, 6]},
        {"y": None},
        {"pads": np.array(pads), "w": np.ones((3, 2, 3, 3), np.float32), "zero": np.zeros((), np.float32),
         "one": np.ones((), np.float32)},
    )  # fmt: skip


def test_a_pad_in_front_of_a_convolution_is_its_own_padding():
    feed = np.random.default_rng(0).normal(size=(2, 2, 6, 6)).astype(np.float32)
    graph, _ = check(padded_conv("zero", pads=(0, 0, 1, 2, 0, 0, 3, 0)), ["Conv"], feed, fuse_padding=1)
    assert list(graph.nodes[0].attrs["pads"]) == [1, 2, 3, 0]
    graph, _ = check(padded_conv(auto_pad="VALID"), ["Conv"], feed, fuse_padding=1)
    check(padded_conv("zero", pads=(0, 0, 1, 1, 0, 0, 1, 1)), ["Conv"], feed, fuse_padding=1)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (padded_conv("one"), "other values"),
        (padded_conv("zero", pad={"mode": "reflect"}), "other values"),
        (padded_conv("zero", pads=(1, 0, 1, 2, 0, 0, 3, 0)), "along samples"),
        (padded_conv("zero", pads=(0, 0, -1, 2, 0, 0, 3, 0)), "negative"),
        (padded_conv("zero", auto_pad="SAME_UPPER"), "depends on the size"),
    ],
)
def test_other_padding_stays(model, reason):
    feed = np.random.default_rng(0).normal(size=(2, 2, 6, 6)).astype(np.float32)
    _, reports = check(model, ["Pad", "Conv"], feed, fuse_padding=0)
    assert reason in reasons(reports, "fuse_padding")[0]
