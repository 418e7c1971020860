"""From what was counted to the energy of ANN, quantised ANN and SNN (maths.energy; docs/energy.md).

ANN         every layer of the normalised ANN, on numbers of 32 bits
quantised   the layers of the SNN: those behind neurons on counts of ⌈log2 levels⌉ bits, sent once
SNN         the same layers: those behind neurons on spikes; and the neurons
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from graphpass.evaluation.counting import LayerStorage, OperationCounts
from graphpass.maths.energy import (
    MODELS,
    Energy,
    EnergyEstimate,
    EnergyModel,
    LayerWork,
    bits_of,
    firing,
    numbers,
    quantising,
    spikes,
)
from graphpass.maths.metrics import SpikeCount

UNKNOWN = Energy(*4 * (float("nan"),))


@dataclass(frozen=True)
class CountedLayer:
    """A layer and its counts over all samples. levels: of the neurons whose spikes it sees, 0 where it sees numbers."""

    counts: OperationCounts
    stored: LayerStorage
    levels: int = 0

    def work(self, samples: int, steps: int = 1) -> LayerWork:
        """Per sample. steps: T of its input and output."""
        found, stored = self.counts, self.stored
        return LayerWork(
            pairs=found.effective / samples,
            inputs=found.inputs / samples / steps,
            outputs=found.outputs / samples / steps,
            events=found.events / samples,
            weights=stored.weights or found.stored / samples,
            biases=stored.biases,
            convolves=stored.convolves,
            places=stored.places,
            product=not stored.weights,
        )


@dataclass(frozen=True)
class CountedNeurons:
    """Neurons of one node, with their spikes over all samples and steps. levels: of their counts."""

    spikes: SpikeCount
    levels: int


@dataclass(frozen=True)
class CountedNetwork:
    """All that was counted of a network. samples: that it was counted on."""

    layers: tuple[CountedLayer, ...]
    neurons: tuple[CountedNeurons, ...] = ()


def estimate(
    name: str, samples: int, steps: int, levels: int, ann: CountedNetwork, snn: CountedNetwork | None
) -> EnergyEstimate:
    """The energy of one sample by the model of this name. levels: the most of any site. snn: None if not counted."""
    model, bits = MODELS[name], bits_of(levels)
    of_ann = _sum(numbers(layer.work(samples), model) for layer in ann.layers)
    if snn is None:
        return EnergyEstimate(name, bits, of_ann, UNKNOWN, UNKNOWN, None)
    quantised = [_quantised(layer, samples, steps, bits, model) for layer in snn.layers]
    spiking = [_spiking(layer, samples, steps, model) for layer in snn.layers]
    for each in snn.neurons:
        count, fired = each.spikes.slots / steps / samples, each.spikes.spikes / samples
        quantised.append(quantising(count, each.levels, model))
        spiking.append(firing(count, fired, each.levels, model, steps))
    return EnergyEstimate(name, bits, of_ann, _sum(quantised), _sum(spiking), _spikes_per_synapse(snn, steps))


def _quantised(layer: CountedLayer, samples: int, steps: int, written: int, model: EnergyModel) -> Energy:
    if not layer.levels:
        return numbers(layer.work(samples), model, written=written)
    work = replace(layer.work(samples, steps), pairs=layer.counts.counts / samples)
    return numbers(work, model, bits_of(layer.levels), written)


def _spiking(layer: CountedLayer, samples: int, steps: int, model: EnergyModel) -> Energy:
    if not layer.levels:
        return numbers(layer.work(samples), model)
    return spikes(layer.work(samples, steps), model, steps)


def _spikes_per_synapse(snn: CountedNetwork, steps: int) -> float | None:
    """Σ operations behind spikes / Σ synapses of these layers, of which a dense layer uses each once a step."""
    behind = [layer.counts for layer in snn.layers if layer.levels]
    synapses = sum(counts.dense for counts in behind)
    return steps * sum(counts.effective for counts in behind) / synapses if synapses else None


def _sum(parts: Iterable[Energy]) -> Energy:
    return sum(parts, Energy())
