"""Errors and firing rates of sites for Model Explorer, as its custom node data: colours on the nodes of a file.

    {graph: {"results": {node: {"value": v}}, "gradient": [{"stop": 0 … 1, "bgColor": colour}]}}

Nodes go by their names, as model-explorer-onnx has them; a value colours the neurons of its site. A file holds one
value a node. Format: node_data_builder.py of https://github.com/google-ai-edge/model-explorer (version 0.1.34).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from graphpass.errors import OptionError
from graphpass.evaluation.results import SiteResult
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.names import site_of
from graphpass.report.pictures.picture import OF_SITES


def file_of(path: Path, value: str) -> Path:
    """The file of one value: its name before the ending.

    >>> file_of(Path("n.json"), "error").name
    'n.error.json'
    """
    return path.with_name(f"{path.stem}.{value}{path.suffix or '.json'}")


def node_data(snn: onnx.ModelProto, sites: Sequence[SiteResult], value: str) -> dict[str, Any]:
    """The document for one value, "error" or "firing_rate", of every site where it was measured, as a fraction.

    Raises OptionError where it was measured at no site.
    """
    known = {site.name: found for site in sites if (found := getattr(site, value)) is not None}
    results = {
        node.name: {"value": known[site]}
        for node in snn.graph.node
        if node.domain == SPIKING_DOMAIN and (site := site_of(node.name, known))
    }
    if not results:
        raise OptionError(f"the evaluation has no {value.replace('_', ' ')} of a site", "evaluate the folded form")
    colours = OF_SITES[value]
    gradient = [{"stop": k / (len(colours) - 1), "bgColor": colour} for k, colour in enumerate(colours)]
    return {snn.graph.name: {"results": results, "gradient": gradient}}
