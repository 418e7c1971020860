"""Calls of layers, normalisations, attention, and operators on images and signals."""

from collections.abc import Iterator

import numpy as np

from tests.operator_cases import RANDOM, OperatorCase, call, fixed, floats, integers, positive


def layers() -> Iterator[OperatorCase]:
    for size, kernel in (((7,), (3,)), ((6, 7), (3, 2)), ((5, 4, 3), (2, 2, 2))):
        x, w = floats(2, 4, *size), floats(6, 2, *kernel)
        yield call("Conv", x, fixed(w), fixed(floats(6)), group=2)
        yield call("Conv", x, fixed(w), None, group=2, strides=[2] * len(size), pads=[1] * 2 * len(size))
        yield call("Conv", x, fixed(w), group=2, dilations=[1] * len(size), auto_pad="SAME_UPPER")
        yield call("Conv", x, fixed(w), group=2, strides=[2] * len(size), auto_pad="SAME_LOWER")
        yield call("Conv", x, fixed(w), group=2, auto_pad="VALID", kernel_shape=list(kernel))
        v = fixed(floats(4, 3, *kernel))
        yield call("ConvTranspose", x, v, fixed(floats(6)), group=2)
        yield call("ConvTranspose", x, v, group=2, strides=[2] * len(size), output_padding=[1] * len(size))
        yield call("ConvTranspose", x, v, group=2, strides=[2] * len(size), pads=[1] * 2 * len(size))
        for pad in ("SAME_UPPER", "SAME_LOWER"):
            yield call("ConvTranspose", x, v, group=2, strides=[2] * len(size), auto_pad=pad)
            shape = [2 * each + 1 for each in size]
            yield call("ConvTranspose", x, v, group=2, strides=[2] * len(size), auto_pad=pad, output_shape=shape)
        for pool in ("AveragePool", "MaxPool", "LpPool"):
            pooled = {"kernel_shape": list(kernel)}
            yield call(pool, x, **pooled)
            yield call(pool, x, **pooled, strides=[2] * len(size), pads=[1] * 2 * len(size))
            yield call(pool, x, **pooled, strides=[2] * len(size), auto_pad="SAME_UPPER")
            yield call(pool, x, **pooled, strides=[2] * len(size), auto_pad="SAME_LOWER")
            ceiled = {"AveragePool": 10, "MaxPool": 10, "LpPool": 18}[pool]
            yield call(pool, x, **pooled, strides=[2] * len(size), pads=[1] * 2 * len(size), first=ceiled, ceil_mode=1)
            dilated = {"AveragePool": 19, "MaxPool": 10, "LpPool": 18}[pool]
            yield call(
                pool, x, **pooled, first=dilated, dilations=[2] * len(size) if min(size) > 3 else [1] * len(size)
            )
        yield call("AveragePool", x, **pooled, pads=[1] * 2 * len(size), count_include_pad=1)
        yield call("AveragePool", x, **pooled, pads=[1] * 2 * len(size), strides=[2] * len(size), count_include_pad=1,
                   first=10, ceil_mode=1)  # fmt: skip
        yield call("MaxPool", x, **pooled, outputs=2)
        yield call("MaxPool", x, **pooled, outputs=2, first=8, storage_order=1)
        yield call("LpPool", x, **pooled, p=1)
        yield call("GlobalLpPool", x, p=1)
    yield call("MaxUnpool", floats(1, 1, 2, 2), fixed([[[[0, 2], [9, 15]]]]), kernel_shape=[2, 2], strides=[2, 2])
    yield call("MaxRoiPool", floats(1, 2, 8, 8), fixed([[0.0, 1.0, 1.0, 5.0, 6.0]]), pooled_shape=[2, 2])
    yield call("DeformConv", floats(1, 2, 4, 4), fixed(floats(3, 2, 2, 2)), fixed(floats(1, 8, 3, 3)))
    for attributes in ({}, {"transB": 1, "alpha": 0.5, "beta": 2.0}):
        b = floats(4, 3) if not attributes else floats(3, 4)
        yield call("Gemm", floats(2, 4), fixed(b), fixed(floats(3)), **attributes)
        yield call("Gemm", floats(2, 4), fixed(b), fixed(floats(2, 1)), **attributes)
    yield call("Gemm", floats(4, 2), fixed(floats(4, 3)), first=11, transA=1)
    yield call("MatMul", floats(2, 3, 4), fixed(floats(4, 5)))
    yield call("MatMul", fixed(floats(5, 3)), floats(2, 3, 4))
    yield call("MatMul", floats(2, 3, 4), floats(4))
    yield call("Einsum", floats(2, 3, 4), fixed(floats(4, 5)), equation="bij,jk->bik")
    for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
        parts = (floats(5, 2, 3), fixed(floats(1, gates * 4, 3)), fixed(floats(1, gates * 4, 4)))
        yield call(op, *parts, fixed(floats(1, gates * 8)), hidden_size=4, outputs=2)
        yield call(op, *parts, None, fixed(integers(2, dtype=np.int32) % 4 + 1), hidden_size=4)
        if op != "RNN":
            both = (floats(5, 2, 3), fixed(floats(2, gates * 4, 3)), fixed(floats(2, gates * 4, 4)))
            yield call(op, *both, hidden_size=4, direction="bidirectional", outputs=2)


def norms() -> Iterator[OperatorCase]:
    for shape in ((2, 4), (2, 4, 5), (2, 4, 3, 3)):
        x, constants = floats(*shape), [fixed(floats(4)) for _ in range(3)] + [fixed(positive(4))]
        yield call("BatchNormalization", x, *constants)
        yield call("BatchNormalization", x, *constants, epsilon=0.1)
        yield call("BatchNormalization", x, *constants, first=14, training_mode=1, outputs=3)
        if len(shape) > 2:
            yield call("InstanceNormalization", x, fixed(floats(4)), fixed(floats(4)), epsilon=0.01)
            yield call("LRN", x, size=3) if len(shape) == 4 else call("LpNormalization", x, axis=1, p=1)
            yield call("GroupNormalization", x, fixed(floats(2)), fixed(floats(2)), last=20, num_groups=2)
            yield call("GroupNormalization", x, fixed(floats(4)), fixed(floats(4)), first=21, num_groups=2, epsilon=0.1)
            yield call("MeanVarianceNormalization", x, axes=[0, 2], first=9)
        yield call("LayerNormalization", x, fixed(floats(shape[-1])), fixed(floats(shape[-1])), epsilon=0.01)
        yield call("LayerNormalization", x, fixed(floats(*shape[1:])), first=17, axis=1, outputs=3)
        yield call("SimplifiedLayerNormalization", x, fixed(floats(shape[-1])), axis=-1)
        yield call("RMSNormalization", x, fixed(floats(shape[-1])))
    x = floats(2, 2, 3, 3)
    each = [fixed(floats(2, 3, 3)) for _ in range(3)] + [fixed(positive(2, 3, 3))]
    yield call("BatchNormalization", x, *each, last=8, spatial=0)
    yield call("MeanVarianceNormalization", floats(2, 3, 4, 4), first=9)
    yield call("Dropout", x)
    yield call("Dropout", x, last=11, outputs=2)
    yield call("Dropout", x, last=11, ratio=0.3)
    yield call("Dropout", x, fixed(0.3), first=12, outputs=2)
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        for shape in ((3, 4), (2, 3, 4), (2, 3, 4, 2)):
            yield call(op, floats(*shape))
            yield call(op, floats(*shape), axis=len(shape) - 1)
            yield call(op, floats(*shape), axis=0)
            yield call(op, floats(*shape), first=11, axis=-1)
            yield call(op, floats(*shape), first=11, axis=-2)
    yield call("Clip", floats(3, 4), last=10, min=-0.5, max=0.5)
    yield call("Clip", floats(3, 4).astype(np.float16), last=10, min=-0.5)
    yield call("Clip", floats(3, 4), last=10)
    yield call("Clip", floats(3, 4), fixed(np.float32(-0.5)), fixed(np.float32(0.5)), first=11)
    yield call("Clip", floats(3, 4), None, fixed(np.float32(0.5)), first=11)


def images() -> Iterator[OperatorCase]:
    x = floats(1, 2, 4, 5)
    for scale in (
        [1.0, 1.0, 2.0, 3.0],
        [1.0, 1.0, 1.5, 1.7],
        [1.0, 1.0, 0.5, 0.75],
        [1.0, 1.0, 2.0, 0.6],
        [1.0, 2.0, 2.0, 1.0],
    ):
        flat = scale[1] == 1.0
        for mode in ("nearest", "linear") if flat else ("nearest",):
            if min(scale) >= 1:
                yield call("Upsample", x, last=8, scales=scale, mode=mode)
                yield call("Upsample", x, fixed(scale), first=9, last=9, mode=mode)
            yield call("Resize", x, fixed(scale), last=10, mode=mode)
            places = "half_pixel asymmetric align_corners pytorch_half_pixel".split()
            for place in places if scale[2] != 1.5 else ():
                yield call("Resize", x, fixed(np.float32([])), fixed(scale), first=11, mode=mode,
                           coordinate_transformation_mode=place)  # fmt: skip
        for rounding in "round_prefer_floor round_prefer_ceil floor ceil".split():
            yield call("Resize", x, fixed(np.float32([])), fixed(scale), first=11, nearest_mode=rounding)
        yield call("Resize", x, fixed(np.float32([])), fixed(scale), first=11, last=12,
                   coordinate_transformation_mode="tf_half_pixel_for_nn")  # fmt: skip
    for size in ([1, 2, 8, 10], [1, 2, 3, 7]):
        for mode in ("nearest", "linear", "cubic"):
            yield call("Resize", x, fixed(np.float32([])), fixed(np.float32([])), fixed(size), first=11, mode=mode)
        yield call("Resize", x, None, None, fixed(size), first=13, mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1)
    roi = fixed([0.0, 0.0, 0.1, 0.2, 1.0, 1.0, 0.8, 0.9])
    yield call("Resize", x, roi, None, fixed([1, 2, 3, 3]), first=13, mode="linear",
               coordinate_transformation_mode="tf_crop_and_resize")  # fmt: skip
    yield call("Resize", x, None, None, fixed([3, 3]), first=18, mode="linear", axes=[2, 3], antialias=1)
    boxes, batch = fixed([[0.0, 0.0, 3.0, 3.0], [1.0, 0.0, 4.0, 2.0]]), fixed([0, 0])
    for mode in ("avg", "max"):
        yield call("RoiAlign", x, boxes, batch, output_height=2, output_width=3, mode=mode, sampling_ratio=2)
    yield call("RoiAlign", x, boxes, batch, first=16, output_height=2, output_width=2, spatial_scale=0.5,
               coordinate_transformation_mode="half_pixel")  # fmt: skip
    grid = fixed(RANDOM.uniform(-1.1, 1.1, (1, 3, 4, 2)).astype(np.float32))
    for old, new in (("bilinear", "linear"), ("bicubic", "cubic"), ("nearest", "nearest")):
        yield call("GridSample", x, grid, last=19, mode=old, padding_mode="border")
        yield call("GridSample", x, grid, first=20, mode=new, align_corners=1)
    yield call("GridSample", x, grid)
    yield call("AffineGrid", fixed(floats(1, 2, 3)), fixed([1, 2, 3, 4]), align_corners=1)


def signals() -> Iterator[OperatorCase]:
    x = floats(1, 8, 1)
    yield call("DFT", x, last=19)
    yield call("DFT", x, last=19, axis=1, onesided=1)
    yield call("DFT", x, fixed(6), last=19)
    yield call("DFT", x, None, fixed(1), first=20)
    labels = fixed(integers(3, high=4))
    yield call("SoftmaxCrossEntropyLoss", floats(3, 4), labels, outputs=2, reduction="sum")
    yield call("NegativeLogLikelihoodLoss", floats(3, 4), labels)
    for op in "BlackmanWindow HammingWindow HannWindow".split():
        yield call(op, fixed(8))
    yield call("MelWeightMatrix", fixed(4), fixed(16), fixed(8000), fixed(0.0), fixed(4000.0))
    yield call("STFT", floats(1, 16, 1), fixed(4), fixed(positive(8)))


def attention() -> Iterator[OperatorCase]:
    q, k, v = (floats(1, 2, 3, 4) for _ in range(3))
    yield call("Attention", q, k, v)
    yield call("RotaryEmbedding", floats(1, 2, 3, 4), fixed(floats(5, 2)), fixed(floats(5, 2)), fixed([[0, 1, 4]]))
