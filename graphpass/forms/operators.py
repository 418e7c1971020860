"""The spiking operators: one schema each, and a function body of standard operators.

Every converted model carries the bodies as ONNX local functions, so that a stock onnxruntime runs it; a
library that registers kernels under the same names replaces them. One page each in docs/operators/.

    ParallelNeuron(x, θ, ψ, A, o) → y                       folded form: A·clip(floor((x + ψ)/θ), 0, L) + o
    ParallelNeuronCount(x, θ, ψ) → n                        integer form: the count alone, uint8
    ParallelNeuronTrain(currents, θ, ψ) → spikes            unrolled form: [S·N, …] → [T·N, …], S = 1 or T
    ThresholdNeuron(x, b, c, A, o) → y                      A·(#{k : x ≥ b_k} + #{k : x < c_k}) + o
    ThresholdNeuronTrain(currents, b, c) → spikes           unrolled form: the train of that count
    TimeMean(currents) → x                                  [T·N, …] → [N, …]
    TimeRepeat(x) → currents                                [N, …] → [T·N, …]

The arithmetic is that of graphpass.maths.neuron, in float32 whatever the type of x. All attributes are written
on every node: a kernel does not see the defaults of a function. Float constants are tensors, which have a type:
onnxslim makes float64 of `value_float`, and onnxruntime then loads no body.
"""

import onnx
from onnx import helper, parser

from graphpass.graph.domains import SPIKING_DOMAIN

VERSION = 1
FOLDED_NEURON = "ParallelNeuron"
COUNT_NEURON = "ParallelNeuronCount"
TRAIN_NEURON = "ParallelNeuronTrain"
THRESHOLD_NEURON = "ThresholdNeuron"
THRESHOLD_TRAIN = "ThresholdNeuronTrain"
BLOCKED_NEURON = "BlockedNeuron"  # these two are in no file: graphpass/runtime/nchwc.py
BLOCKED_NEURON_OF_SUM = "BlockedNeuronOfSum"
LOOK_UP = "LookUp"  # nor is this: graphpass/runtime/tables.py
TIME_MEAN = "TimeMean"
TIME_REPEAT = "TimeRepeat"
TRAIN_OF = {FOLDED_NEURON: TRAIN_NEURON, THRESHOLD_NEURON: THRESHOLD_TRAIN}  # what sends the counts of each
FOLDED_NEURONS, TRAIN_NEURONS = frozenset(TRAIN_OF), frozenset(TRAIN_OF.values())
NEURONS = FOLDED_NEURONS | TRAIN_NEURONS

# count: x32 (float32), θ, ψ, levels → n
_COUNT = """
    one = Constant <value = float {1.0}> ()
    zero = Constant <value = float {0.0}> ()
    levels_int = Constant <value_int: int = @levels> ()
    levels_float = Cast <to = 1> (levels_int)
    largest = Sub (levels_float, one)
    shifted = Add (x32, shift)
    scaled = Div (shifted, threshold)
    level = Floor (scaled)
    count = Clip (level, zero, largest)
"""

# count: x32 (float32), b, c [L, …] → n, step by step so that the memory does not grow with L; NaN stays NaN
_THRESHOLD_COUNT = """
    x_shape = Shape (x32)
    line = Constant <value_ints = [-1]> ()
    x_line = Reshape (x32, line)
    line_shape = Shape (x_line)
    none = ConstantOfShape <value = float[1] {0.0}> (line_shape)
    all_shape = Shape (rising)
    first_1d = Constant <value_ints = [0]> ()
    second_1d = Constant <value_ints = [1]> ()
    most_1d = Slice (all_shape, first_1d, second_1d, first_1d)
    most = Squeeze (most_1d)
    yes = Constant <value = bool[1] {1}> ()
    on = Squeeze (yes)
    spikes_so_far = Loop (most, on, none) <body = counting
        (int64 k, bool going, float[M] n_before) => (bool goes_on, float[M] n_after)
    {
        goes_on = Identity (going)
        b = Gather <axis = 0> (rising, k)
        c = Gather <axis = 0> (falling, k)
        above = GreaterOrEqual (x32, b)
        below = Less (x32, c)
        outside = Or (above, below)
        fires = Cast <to = 1> (outside)
        one_more = Reshape (fires, line)
        n_after = Add (n_before, one_more)
    }>
    spike_count = Reshape <allowzero = 1> (spikes_so_far, x_shape)
    broken_x = IsNaN (x32)
    count = Where (broken_x, x32, spike_count)
"""

# mean over the steps of [S·N, …]: rows = [S, M], weights = [1, S] → x32 [N, …]
_WEIGHTS = {
    "rate": """
    weights = Expand (unit, steps_1d)
""",
    "phase": """
    two = Constant <value = float {2.0}> ()
    first = Sub (steps, one_int)
    exponents = Range (first, minus_one, minus_one)
    exponents_float = Cast <to = 1> (exponents)
    weights = Pow (two, exponents_float)
""",
}

_MEAN = """
    unit = Constant <value = float[1] {{1.0}}> ()
    minus_one_1d = Constant <value_ints = [-1]> ()
    minus_one = Constant <value_int = -1> ()
    one_int = Constant <value_int = 1> ()
    one_1d = Constant <value_ints = [1]> ()
    zero_1d = Constant <value_ints = [0]> ()
    end_1d = Constant <value_ints = [9223372036854775807]> ()
    steps = Constant <value_int: int = @{steps}> ()
    steps_1d = Reshape (steps, one_1d)
    shape = Shape (currents)
    inner = Slice (shape, one_1d, end_1d, zero_1d)
    rows_shape = Concat <axis = 0> (steps_1d, minus_one_1d)
    currents32 = Cast <to = 1> (currents)
    rows = Reshape (currents32, rows_shape)
    {weights}
    total = ReduceSum <keepdims = 0> (weights)
    weights_shape = Concat <axis = 0> (one_1d, steps_1d)
    weights_row = Reshape (weights, weights_shape)
    sum = MatMul (weights_row, rows)
    mean = Div (sum, total)
    moments = Slice (shape, zero_1d, one_1d, zero_1d)
    samples = Div (moments, steps_1d)
    sample_shape = Concat <axis = 0> (samples, inner)
    x32 = Reshape <allowzero = 1> (mean, sample_shape)
"""

# y: count, A, o → the output in the type of x
_OUTPUT = """
    scaled_count = Mul (count, amplitude)
    y32 = Add (scaled_count, offset)
    y = CastLike (y32, x)"""

# what _SPIKES reads besides the count
_ZERO = """
    zero = Constant <value = float {0.0}> ()
"""

# spikes of the steps: count [N, …] → [T, M]
_SPIKES = {
    "rate": """
    output_steps = Constant <value_int: int = @time_steps> ()
    zero_int = Constant <value_int = 0> ()
    edges = Range (output_steps, zero_int, minus_one)
    edges_float = Cast <to = 1> (edges)
    edges_column = Unsqueeze (edges_float, one_1d)
    fired = GreaterOrEqual (flat, edges_column)
""",
    "phase": """
    output_steps = Constant <value_int: int = @time_steps> ()
    base = Constant <value = float {2.0}> ()
    last = Sub (output_steps, one_int)
    digits = Range (last, minus_one, minus_one)
    digits_float = Cast <to = 1> (digits)
    powers = Pow (base, digits_float)
    powers_column = Unsqueeze (powers, one_1d)
    quotients = Div (flat, powers_column)
    whole = Floor (quotients)
    digit = Mod <fmod = 1> (whole, base)
    fired = Greater (digit, zero)
""",
}


def _function(name: str, signature: str, attributes: str, body: str, opset: int) -> onnx.FunctionProto:
    head = f'<domain: "{SPIKING_DOMAIN}", opset_import: ["" : {opset}]>'
    text = f"{head}\n{name} <{attributes}> {signature}\n{{\n{body}\n}}"
    return parser.parse_function(text)


def functions(coding: str, opset: int) -> tuple[onnx.FunctionProto, ...]:
    """The bodies of all operators for one coding, written in the given opset (15 or newer)."""
    mean = _MEAN.format(steps="time_steps", weights=_WEIGHTS[coding])
    train_mean = _MEAN.format(steps="input_steps", weights=_WEIGHTS[coding])
    train = f"""
    flat_shape = Concat <axis = 0> (one_1d, minus_one_1d)
    flat = Reshape (count, flat_shape)
    {_SPIKES[coding]}
    sent = Mul (samples, output_steps)
    train_shape = Concat <axis = 0> (sent, inner)
    train = CastLike (fired, currents)
    spikes = Reshape <allowzero = 1> (train, train_shape)"""
    return (
        _function(
            FOLDED_NEURON,
            "(x, threshold, shift, amplitude, offset) => (y)",
            "time_steps, levels, coding",
            "x32 = Cast <to = 1> (x)" + _COUNT + _OUTPUT,
            opset,
        ),
        _function(
            COUNT_NEURON,
            "(x, threshold, shift) => (n)",
            "time_steps, levels, coding",
            "x32 = Cast <to = 1> (x)"
            + _COUNT
            + """
    broken = IsNaN (count)
    spikes = Where (broken, zero, count)
    n = Cast <to = 2> (spikes)""",
            opset,
        ),
        _function(
            TRAIN_NEURON,
            "(currents, threshold, shift) => (spikes)",
            "time_steps, input_steps, levels, coding",
            train_mean + _COUNT + train,
            opset,
        ),
        _function(
            THRESHOLD_NEURON,
            "(x, rising, falling, amplitude, offset) => (y)",
            "time_steps, levels, coding",
            "x32 = Cast <to = 1> (x)" + _THRESHOLD_COUNT + _OUTPUT,
            opset,
        ),
        _function(
            THRESHOLD_TRAIN,
            "(currents, rising, falling) => (spikes)",
            "time_steps, input_steps, levels, coding",
            train_mean + _ZERO + _THRESHOLD_COUNT + train,
            opset,
        ),
        _function(
            TIME_MEAN,
            "(currents) => (x)",
            "time_steps, coding",
            mean + "    x = CastLike (x32, currents)",
            opset,
        ),
        _function(
            TIME_REPEAT,
            "(x) => (currents)",
            "time_steps, coding",
            """
    minus_one_1d = Constant <value_ints = [-1]> ()
    one_1d = Constant <value_ints = [1]> ()
    zero_1d = Constant <value_ints = [0]> ()
    end_1d = Constant <value_ints = [9223372036854775807]> ()
    steps = Constant <value_int: int = @time_steps> ()
    steps_1d = Reshape (steps, one_1d)
    shape = Shape (x)
    inner = Slice (shape, one_1d, end_1d, zero_1d)
    row_shape = Concat <axis = 0> (one_1d, minus_one_1d)
    row = Reshape (x, row_shape)
    rows_shape = Concat <axis = 0> (steps_1d, one_1d)
    rows = Expand (row, rows_shape)
    samples = Slice (shape, zero_1d, one_1d, zero_1d)
    moments = Mul (samples, steps_1d)
    train_shape = Concat <axis = 0> (moments, inner)
    currents = Reshape <allowzero = 1> (rows, train_shape)""",
            opset,
        ),
    )


def opset_import() -> onnx.OperatorSetIdProto:
    """The opset entry that a model with spiking operators declares."""
    return helper.make_opsetid(SPIKING_DOMAIN, VERSION)
