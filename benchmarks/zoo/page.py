"""docs/zoo.md from the results."""

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.assets import ASSETS
from benchmarks.zoo.entry import SETTINGS, Covered, Entry, FormTimes, Result, Variant
from benchmarks.zoo.files import File
from benchmarks.zoo.tasks import COSINE

LEAST_SHARE = 0.0005

HEAD = """# The zoo

Public pretrained networks, converted, verified and measured: default settings, nothing tuned to a network. This page is
written by

    python -m benchmarks.zoo --write          # what benchmarks/zoo/results does not hold yet
    python -m benchmarks.zoo --time --write   # the times, on a machine that does nothing else

`python -m benchmarks.zoo NAME` measures one member and prints its rows. To replace kept rows, delete its file in
`benchmarks/zoo/results` first. `pip install --group benchmarks` installs the packages that it needs besides graphpass;
`pip install --group zoo` also those that SmolLM2 and EfficientNet-Lite0 are exported with.
"""
COVERAGE = """
MACs are the multiply-accumulates of weight layers and of products of two activations. *Additions* are those where
binary spikes alone meet the weights, as `graphpass inspect` and `evaluate` count them; sums and averages of spikes are
multiplied once, on their mean over time.
*Forms*: `graphpass verify` at phase T = 4; *agree* means that float rounding explains every count that differs.
"""
ACCURACY = """
In brackets: the ANN with its activations quantised to as many levels, channel by channel with the least error, and no
other weights. Rows without brackets were measured beside another baseline. Phase T = 4 has 16 levels, rate T has
T + 1. Where the ANN has no number, its outputs are the truth that the SNN is compared with.
"""
SIMILARITY = """
Mean over the samples of the cosine between the SNN's output and the ANN's; in brackets that of the quantised ANN. It is
left out if the table above has it.
"""
ACTIVITY = """
Firing rate / energy of the SNN as a share of the ANN's: 4.6 pJ per MAC, 0.9 pJ per AC, with analogue layers, without
memory traffic.
"""
FILES = """
`python -m benchmarks.zoo --files --write`: random inputs, method `max`, T = 4, each file verified ({date}). The
networks of `onnx_light` are architectures of the onnx package with constant weights.
"""
TIME = """
Milliseconds per sample at phase T = 4, {threads} thread(s). {machine}.
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
    shares = [percent(each.share) + (f", {counted(each.nodes)}" if each.nodes else "") for each in reasons]
    texts = [f"{each.text} ({share})" for each, share in zip(reasons, shares, strict=True)]
    without = sum(each.nodes for each in covered.left if each.share < LEAST_SHARE)
    return "; ".join([*texts, *([f"{counted(without)} without MACs"] if without else [])])


def counted(nodes: int) -> str:
    return f"{nodes} node{'s' if nodes > 1 else ''}"


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
        cells.append(f"{number(row.firing_rate, 3)} / {number(row.energy, 2)}" if row else "")
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
        ("member", "what", "worth a member for", "calibration, evaluation samples", "measured"),
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
            "M MACs a sample",
            "additions",
            "analogue, and why",
            "forms",
        ),
        (coverage(name, key, variant) for name, key, _, _, variant in converted),
    )
    text += ["## Accuracy", ACCURACY]
    text += lines(
        ("member", "number", "n", "ANN", *columns),
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
        text += ["## Time", TIME.format(machine="; ".join(machines), threads=", ".join(map(str, threads)))]
        text += lines(("member", "batch", "ANN, ms a sample", "folded", "integer"), (speed(*each) for each in timed))
    if files:
        refused = [(file.name, file.refusal) for file in files if file.refusal]
        other = [(file.name, file.sites, file.layers, file.converted) for file in files if not file.refusal]
        text += ["## Every file of the packages", FILES.format(date=tried)]
        text += lines(("file", "sites", "weight layers", "converted"), iter(other))
        text += ["### Refused", "", "What `graphpass convert`, or `verify`, says.", ""]
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
