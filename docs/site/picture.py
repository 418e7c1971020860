"""The picture of the README, drawn from the table of docs/results.md.

    python -m docs.site.picture        writes docs/images/resnet20.svg

Points of top-1 lost over T, for each method, with the energy at each T. The figures are in the file's description, too,
where a test compares them with the table.
"""

import json
import re
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

DOCS = Path(__file__).parents[1]
PICTURE = DOCS / "images" / "resnet20.svg"
NOISE = 0.2  # points: below it, the axis is linear
LINES = {  # column of the table → name in the picture, colour
    "optimal": ("graphpass (optimal)", "#3949ab"),
    "da-qcfs": ("calibration of the paper (da-qcfs)", "#f57c00"),
    "max": ("max", "#9e9e9e"),
    "quantised ANN": ("ANN quantised to as many levels", "#2e7d32"),
}


def rows() -> list[dict[str, str]]:
    """The rows of the table of ResNet-20, by the names of its columns."""
    section = (DOCS / "results.md").read_text("utf-8").split("## ResNet-20, CIFAR-10")[1].split("\n## ")[0]
    header, _, *found = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", section, re.MULTILINE)
    ]
    return [dict(zip(header, row, strict=True)) for row in found]


def draw() -> None:
    """Write the picture."""
    rate = [row for row in rows() if row["coding"] == "rate"]
    (phase,) = (row for row in rows() if row["coding"] == "phase")
    steps = [int(row["T"]) for row in rate]
    plt.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "graphpass", "font.family": "sans-serif", "font.size": 11}
    )
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for column, (name, colour) in LINES.items():
        axes.plot(steps, [float(row[column]) for row in rate], "o-", color=colour, label=name)
    axes.plot(int(phase["T"]), float(phase["optimal"]), "*", markersize=14, color=LINES["optimal"][1], linestyle="none",
              label=f"graphpass, phase code ({float(phase['energy SNN/ANN']):.2f} × the energy)")  # fmt: skip
    axes.set(xscale="log", ylabel="points of top-1 accuracy lost", title="ResNet-20 on CIFAR-10")
    axes.set_yscale("symlog", linthresh=NOISE)
    axes.set_xticks(steps, [f"T = {row['T']}\n{float(row['energy SNN/ANN']):.2f} ×" for row in rate])
    axes.set_xlabel("time-steps, and energy of the spiking network compared with the original")
    axes.set_yticks([0, NOISE, 1, 10, 100], ["0", f"{NOISE}", "1", "10", "100"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.set_ylim(-NOISE / 4, 100)
    axes.legend(frameon=False, loc="lower left", fontsize=10)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None, "Description": json.dumps(rows())}, facecolor="white")


if __name__ == "__main__":
    draw()
