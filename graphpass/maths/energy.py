"""Energy of one inference, with the traffic of memory: arithmetic, weights, state and activations.

    layer that sees numbers of b bits        E_a = P·(e_mul·min(b/d, 1) + e_add) + B·e_add + addresses
                                             E_w = P·r(32, W) + B·r(32, C)
                                             E_x = R·r(b, X) + Y·r(y, Y)        R = P (convolution), X (matrix)
    layer that sees spikes                   E_a = P·e_add + B·e_add + addresses
                                             E_w = P·r(32, W) + B·r(32, C)
                                             E_s = (2·P + Y)·r(32, Y)
                                             E_x = S·r(32, trains of X neurons)
    neurons that fire                        E_a = N·⌈log2 levels⌉·e_add
                                             E_s = N·r(32, N)        E_x = S·r(32, trains of N neurons)

P pairs of an input and a weight that are both not zero, for spikes summed over the steps; B biases added; X, Y numbers
in the input and the output, W weights and C biases stored; S spikes; N neurons; r(b, M) the energy of reading or
writing a number of b bits in a memory that holds M numbers of b bits (a train: one bit for each neuron and step). All
per sample; energies in pJ, sizes in numbers. docs/energy.md derives the formulas and says what is not counted.

Sources: Lemaire et al., ICONIP 2022 (arXiv 2210.13107); Horowitz, ISSCC 2014; Yan et al., arXiv 2409.08290.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

WIDTH = 32  # bits of weights, of sums and of analogue numbers
KIB = 1024


@dataclass(frozen=True)
class Energy:
    """pJ a sample, by what it is spent on. state: the sums that spikes are added to."""

    arithmetic: float = 0.0
    weights: float = 0.0
    state: float = 0.0
    activations: float = 0.0

    @property
    def total(self) -> float:
        return self.arithmetic + self.weights + self.state + self.activations

    def __add__(self, other: "Energy") -> "Energy":
        return Energy(
            self.arithmetic + other.arithmetic,
            self.weights + other.weights,
            self.state + other.state,
            self.activations + other.activations,
        )


@dataclass(frozen=True)
class EnergyModel:
    """Prices in pJ.

    addition, multiplication: of two numbers of 32 bits. digits: bits of a factor that the multiplier works on.
    address_addition, address_multiplication: of whole numbers, to find a weight and a sum; 0 where not counted.
    access: of one word, from the size of the memory in bytes. word: bits of a word. distant: of a bit that is moved
    once between the DRAM and the memory, where all data of a kind takes more than `largest` bytes.
    """

    addition: float
    multiplication: float
    digits: int
    address_addition: float
    address_multiplication: float
    access: Callable[[float], float]
    word: int
    distant: float = 0.0
    largest: float = math.inf

    def traffic(self, accesses: float, bits: float, held: float) -> float:
        """pJ of that many accesses to numbers of so many bits, in a memory of held bits.

        >>> MODELS["lemaire22"].traffic(3, 32, 8 * 8192)
        30.0
        """
        size = held / 8
        moved = min(accesses * bits, held) * self.distant if size > self.largest else 0.0
        return accesses * bits / self.word * self.access(size) + moved


def interpolated(size: float) -> float:
    """pJ for 4 bytes of an SRAM of so many bytes (Lemaire et al.): 10, 20 and 100 at 8 KiB, 32 KiB and 1 MiB.

    Linear between these and from 0 up; 100 beyond.

    >>> interpolated(4096), interpolated(8192), interpolated(20 * 1024), interpolated(1 << 30)
    (5.0, 10.0, 15.0, 100.0)
    """
    return float(np.interp(size, (0, 8 * KIB, 32 * KIB, KIB * KIB), (0.0, 10.0, 20.0, 100.0)))


def stepped(size: float) -> float:
    """pJ for 8 bytes of the smallest of Horowitz's memories that holds so many bytes; the largest if none does.

    >>> stepped(100), stepped(8192), stepped(8193), stepped(1 << 30)
    (10.0, 10.0, 20.0, 100.0)
    """
    return 10.0 if size <= 8 * KIB else 20.0 if size <= 32 * KIB else 100.0


MODELS: Mapping[str, EnergyModel] = {
    "lemaire22": EnergyModel(0.1, 3.1, 32, 0.1, 3.1, interpolated, 32),
    "horowitz45": EnergyModel(0.9, 3.7, 24, 0.0, 0.0, stepped, 64, 1300 / 64, KIB * KIB),
}


@dataclass(frozen=True)
class LayerWork:
    """What one layer does in one sample.

    pairs: of input and weight, both not zero; for spikes summed over the steps. inputs, outputs: numbers in its input
    and output, at one step. events: inputs that are not zero, for spikes summed over the steps. weights, biases: stored
    numbers. convolves: its input is read for every pair, else once. places: kernel taps times output channels of a
    convolution, whose addresses are computed once. product: of two activations, so that its weights are activations.
    """

    pairs: float
    inputs: float
    outputs: float
    events: float
    weights: float
    biases: float = 0.0
    convolves: bool = False
    places: float = 0.0
    product: bool = False


def numbers(work: LayerWork, model: EnergyModel, bits: int = WIDTH, written: int = WIDTH) -> Energy:
    """pJ of a layer whose input is numbers of `bits` bits, and whose output of `written` bits.

    >>> layer = LayerWork(pairs=6, inputs=2, outputs=3, events=2, weights=6)
    >>> round(numbers(layer, MODELS["horowitz45"]).arithmetic, 9)  # 6·(3.7 + 0.9)
    27.6
    """
    summed = work.outputs if work.biases else 0.0
    product = model.multiplication * min(bits / model.digits, 1.0)
    addresses = (work.inputs + work.outputs + work.places) * model.address_addition
    read = work.pairs if work.convolves else work.inputs
    weights = model.traffic(work.pairs, WIDTH, work.weights * WIDTH)
    biases = model.traffic(summed, WIDTH, work.biases * WIDTH)
    inputs = model.traffic(read, bits, work.inputs * bits)
    outputs = model.traffic(work.outputs, written, work.outputs * written)
    return Energy(
        arithmetic=work.pairs * (product + model.addition) + summed * model.addition + addresses,
        weights=biases + (0.0 if work.product else weights),
        activations=inputs + outputs + (weights if work.product else 0.0),
    )


def spikes(work: LayerWork, model: EnergyModel, steps: int) -> Energy:
    """pJ of a layer whose input is spikes of so many steps.

    >>> layer = LayerWork(pairs=6, inputs=2, outputs=3, events=2, weights=6)
    >>> round(spikes(layer, MODELS["horowitz45"], 4).arithmetic, 9)  # 6·0.9
    5.4
    """
    summed = work.outputs if work.biases else 0.0
    places = work.events * 2 * (model.address_multiplication + model.address_addition) if work.convolves else 0.0
    return Energy(
        arithmetic=(work.pairs + summed) * model.addition + work.pairs * model.address_addition + places,
        weights=model.traffic(work.pairs, WIDTH, work.weights * WIDTH)
        + model.traffic(summed, WIDTH, work.biases * WIDTH),
        state=model.traffic(2 * work.pairs + work.outputs, WIDTH, work.outputs * WIDTH),
        activations=model.traffic(work.events, WIDTH, work.inputs * steps),
    )


def firing(neurons: float, fired: float, levels: int, model: EnergyModel, steps: int) -> Energy:
    """pJ of neurons that compare their sum with thresholds and send `fired` spikes in so many steps.

    >>> firing(10, 0, 5, MODELS["horowitz45"], 4).arithmetic  # 10 neurons · 3 comparisons
    27.0
    """
    return Energy(
        arithmetic=neurons * bits_of(levels) * model.addition,
        state=model.traffic(neurons, WIDTH, neurons * WIDTH),
        activations=model.traffic(fired, WIDTH, neurons * steps),
    )


def quantising(neurons: float, levels: int, model: EnergyModel) -> Energy:
    """pJ of the comparisons that make numbers of levels out of sums; writing them is part of the layer."""
    return Energy(arithmetic=neurons * bits_of(levels) * model.addition)


def bits_of(levels: int) -> int:
    """⌈log2 levels⌉, the bits that a number of so many levels takes.

    >>> bits_of(2), bits_of(5), bits_of(16), bits_of(256)
    (1, 3, 4, 8)
    """
    return (levels - 1).bit_length()


def in_bits(bits: int) -> str:
    """A number of bits, in words.

    >>> in_bits(1), in_bits(3)
    ('1 bit', '3 bits')
    """
    return "1 bit" if bits == 1 else f"{bits} bits"


@dataclass(frozen=True)
class EnergyEstimate:
    """The energy of one sample: the ANN, the same network sending counts as numbers of `bits` bits, and the SNN.

    model: the name in MODELS. spikes_per_synapse: spikes that reach a synapse in one inference, mean over all synapses
    behind neurons; None where there are none. NaN where operations are not counted (the integer form).
    """

    model: str
    bits: int
    ann: Energy
    quantised: Energy
    snn: Energy
    spikes_per_synapse: float | None

    @property
    def ratio(self) -> float | None:
        """SNN / ANN; None where the ANN needs none."""
        return self.snn.total / self.ann.total if self.ann.total else None

    @property
    def quantised_ratio(self) -> float | None:
        """Quantised / ANN; None where the ANN needs none."""
        return self.quantised.total / self.ann.total if self.ann.total else None

    @property
    def verdict(self) -> str:
        """Whether spikes save energy, in a sentence."""
        ann, quantised, snn, reached = self.ann.total, self.quantised.total, self.snn.total, self.spikes_per_synapse
        if math.isnan(snn) or not ann or reached is None:
            return "Whether spikes save energy is not known: no operations behind spikes were counted"
        beside = f"{snn / quantised:.3g} × that of the same network with numbers of {in_bits(self.bits)}"
        if snn < min(ann, quantised):
            found = "Spikes save energy"
        else:
            found = "Fewer levels save energy, spikes do not" if snn < ann else "Spikes do not save energy"
        costs = f"the SNN takes {snn / ann:.3g} × the energy of the ANN and {beside}"
        return f"{found}: {costs}, at {reached:.3g} spikes per synapse and inference"
