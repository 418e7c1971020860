"""What reports draw of a network, beside the figures of its evaluation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphpass.graph.outline import Outline
from graphpass.maths.neuron import spike_train


@dataclass(frozen=True)
class SiteSpikes:
    """The spikes of one site for one sample.

    neurons: how many the site has. counts: n of some of them, drawn at random. rates: for each step the share of all
    its neurons that spike, 0 … 1.
    """

    name: str
    neurons: int
    counts: tuple[int, ...]
    rates: tuple[float, ...]


@dataclass(frozen=True)
class SpikeRecord:
    """Spikes for sample number `sample` of the data `described`. sites: the first ones of all that the network has."""

    time_steps: int
    coding: str
    sample: int
    described: str
    all_sites: int
    sites: tuple[SiteSpikes, ...]

    def trains(self, site: SiteSpikes) -> NDArray[np.uint8]:
        """Spikes of the neurons in `counts`, uint8 [neurons, T]."""
        return spike_train(np.array(site.counts, np.int64), self.time_steps, self.coding).T


@dataclass(frozen=True)
class Drawn:
    """What reports draw of a network: the spikes of a sample, and its nodes; None where that is not possible."""

    spikes: SpikeRecord | None
    outline: Outline | None
