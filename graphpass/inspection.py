"""What `graphpass inspect` shows of a network before anything is converted."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.calibration.ranking import Ranking, rank
from graphpass.datasets.dataset import Dataset
from graphpass.errors import OptionError
from graphpass.graph.domains import opset_of
from graphpass.graph.layers import count_weights
from graphpass.graph.plan import Left
from graphpass.network import Network, with_identity_sites
from graphpass.passes.base import Miss
from graphpass.progress import Progress, silent


@dataclass(frozen=True)
class InspectedSite:
    """name, kind of activation, channels' axis (None: one threshold for the tensor), weight layers that it feeds."""

    name: str
    kind: str
    axis: int | None
    layers: tuple[str, ...]


@dataclass(frozen=True)
class WithIdentitySites:
    """What identity sites would bring: how many sites more, and how many weight layers spikes would reach then."""

    added: int
    spiking_layers: int


@dataclass(frozen=True)
class Inspection:
    """rewrites: how often each rule of passes/normalise.py applied. parameters: numbers in the
    matrices and kernels of weight layers, also of those in branches and bodies.

    with_identity_sites: None where they were asked for, or would add nothing. ranking: of the sites, where it was asked
    for.
    """

    path: str
    sha256: str
    opset: int
    emitted_opset: int
    inputs: tuple[tuple[str, str, tuple[Any, ...]], ...]
    outputs: tuple[str, ...]
    nodes: int
    parameters: int
    weight_layers: int
    spiking_layers: int
    sites: tuple[InspectedSite, ...]
    left: tuple[Left, ...]
    with_identity_sites: WithIdentitySites | None
    rewrites: dict[str, int]
    misses: tuple[Miss, ...]
    ranking: Ranking | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def inspect(network: Network) -> Inspection:
    """Facts about a prepared network."""
    source, graph, coverage = network.source, network.graph, network.coverage
    more = with_identity_sites(network)
    added = None if more is None else WithIdentitySites(len(more.sites) - len(coverage.sites), more.spiking_layers)
    return Inspection(
        str(source.path),
        source.digest,
        source.opset,
        opset_of(source.bare),
        tuple(
            (t.name, str(t.dtype and t.dtype.__name__ if isinstance(t.dtype, type) else t.dtype), tuple(t.shape or ()))
            for t in graph.inputs
        ),
        tuple(t.name for t in graph.outputs),
        len(graph.nodes),
        count_weights(graph),
        coverage.weight_layers,
        coverage.spiking_layers,
        tuple(InspectedSite(s.name, s.kind, s.axis, s.layers) for s in coverage.sites),
        coverage.left,
        added,
        {report.rule: report.rewrites for report in network.rules},
        tuple(miss for report in network.rules for miss in report.misses),
    )


def inspect_ranked(
    network: Network,
    calibration: Dataset,
    options: CalibrationOptions,
    evaluation: Dataset | None = None,
    progress: Progress = silent,
) -> Inspection:
    """Facts about a prepared network, and which of its sites cost the accuracy (calibration/ranking.py).

    Raises OptionError for a network without sites.
    """
    if not network.coverage.sites:
        raise OptionError(
            f"{network.source.path}: no sites to rank",
            "inspect it without calibration data, which says what stays and why",
        )
    return replace(inspect(network), ranking=rank(network, calibration, options, evaluation, progress))
