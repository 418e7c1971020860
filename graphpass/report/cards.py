"""Model cards: what a converted network is, where it comes from, what was measured and what it does not do."""

import onnx

from graphpass.evaluation.results import ConversionFacts, Evaluation
from graphpass.report.cells import Cells, headline
from graphpass.report.markdown import section, table, text
from graphpass.wording import counted

TYPES = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
LISTED = 100  # rows of a table at most
MADE_UP = "It was calibrated on made-up inputs, not on data: accuracy on data is lower than with a calibration on it."
ENERGY = "Energy is an estimate from counted operations and published prices at 45 nm; no chip was measured."
UNMEASURED = (
    "Nothing was measured for this card. `graphpass evaluate … --json E.json` measures, "
    "`graphpass card … --figures E.json` takes it in."
)
FORMS = {
    "integer": "Counts are uint8 and weights int8: some counts differ from those of the folded form of the same plan.",
    "unrolled": "Every time-step is computed, so that the work grows with T; the folded form of a plan is one pass.",
}


def model_card(snn: onnx.ModelProto, facts: ConversionFacts, name: str, digest: str, found: Evaluation | None) -> str:
    """The card of a converted network in Markdown.

    facts: the metadata of the model. digest: sha256 of its file, empty where there is none. found: what was measured.
    """
    intended = f"It was converted from an ordinary network by graphpass {text(facts.version)}, without training."
    parts = [
        f"# {text(name)}\n",
        f"A spiking neural network of parallel spiking neurons in ONNX. {intended}\n",
        section("Settings", table(("setting", "value"), _settings(facts))),
        section("Where it comes from", table(("file", "sha256"), _digests(facts, digest))),
        section("Inputs and outputs", table(("", "name", "type", "shape"), _tensors(snn))),
        section("Figures", *_figures(found)),
        section(f"Neurons: {counted(len(facts.sites), 'site')}", *_sites(facts)),
        section(f"What stayed as it was: {counted(len(facts.left), 'node')}", *_left(facts)),
        section("Limits", "".join(f"* {limit}\n" for limit in _limits(facts, found))),
    ]
    return "\n".join(parts)


def _settings(facts: ConversionFacts) -> list[Cells]:
    return [
        ("time-steps T", str(facts.time_steps)),
        ("code", facts.coding),
        ("levels", _levels(facts)),
        ("calibration", f"{facts.method}; data: {facts.data or 'unknown'}"),
        ("form", facts.form_and_precision),
    ]


def _levels(facts: ConversionFacts) -> str:
    found = sorted({site.levels for site in facts.sites})
    return str(facts.levels) if found in ([], [facts.levels]) else f"{found[0]} … {found[-1]}, {facts.levels} at most"


def _digests(facts: ConversionFacts, digest: str) -> list[Cells]:
    stated = (
        ("this network", digest),
        ("original network", facts.model_digest),
        ("calibration data", facts.data_digest),
    )
    return [(name, value or "none") for name, value in stated]


def _tensors(snn: onnx.ModelProto) -> list[Cells]:
    weights = {tensor.name for tensor in snn.graph.initializer}
    inputs = [("input", each) for each in snn.graph.input if each.name not in weights]
    return [_tensor(kind, each) for kind, each in (*inputs, *(("output", each) for each in snn.graph.output))]


def _tensor(kind: str, value: onnx.ValueInfoProto) -> Cells:
    tensor = value.type.tensor_type
    sizes = [
        each.dim_param or (str(each.dim_value) if each.HasField("dim_value") else "any") for each in tensor.shape.dim
    ]
    return kind, value.name, TYPES.get(tensor.elem_type, "unknown"), " × ".join(sizes)


def _figures(found: Evaluation | None) -> list[str]:
    if found is None:
        return [UNMEASURED]
    source = found.provenance
    header, rows = headline(found)
    digest = f" (sha256 {text(source.evaluation_sha256)})" if source.evaluation_sha256 else ""
    data = f"{counted(found.samples, 'sample')} of {text(source.evaluation_data or 'data without a name')}{digest}"
    ran = f"{text(source.onnxruntime)}, {text(source.date)}"
    notes = [f"* {text(note)}\n" for note in found.notes]
    return [f"Measured on {data}, {ran}.", table(header, rows), *(["".join(notes)] if notes else [])]


def _sites(facts: ConversionFacts) -> list[str]:
    rows = [(site.name, site.kind, str(site.levels), ", ".join(site.layers)) for site in facts.sites[:LISTED]]
    return [table(("site", "activation", "levels", "feeds"), rows), *_more(len(facts.sites))]


def _left(facts: ConversionFacts) -> list[str]:
    rows = [(each.node, each.op, each.reason, "yes" if each.expected else "no") for each in facts.left[:LISTED]]
    return [table(("node", "operator", "reason", "as it should be"), rows), *_more(len(facts.left))]


def _more(count: int) -> list[str]:
    return [f"And {count - LISTED:,} more, in the metadata of the file."] if count > LISTED else []


def _limits(facts: ConversionFacts, found: Evaluation | None) -> list[str]:
    unexpected = sum(not each.expected for each in facts.left)
    limits = ["It has the purpose and the weaknesses of the original network."]
    if unexpected:
        limits.append(f"{counted(unexpected, 'node')} stayed analogue that should have become neurons.")
    if facts.data == "synthetic":
        limits.append(MADE_UP)
    if facts.form in FORMS:
        limits.append(FORMS[facts.form])
    if found is None:
        limits.append("How far its outputs are from those of the original network was not measured for this card.")
    else:
        limits += ["Figures are those of these samples on one machine; time depends on it.", ENERGY]
    return limits
