# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # 3. Choosing T
#
# More time-steps give more levels and a better accuracy, but also more spikes and so more energy. In this tutorial you
# measure both for several T and both codes, and choose.
#
# ## Measure

# %%
from pathlib import Path

import graphpass

example = Path("examples/fashion_mnist")
model = graphpass.load(example / "fashion_mnist.onnx")  # read once, converted many times
calibration = graphpass.open_dataset(example / "calibration.npz", model)
data = graphpass.open_dataset(example / "evaluation.npz", model)

rate = graphpass.sweep(model, calibration, data, time_steps=[2, 4, 8, 16], coding="rate")
phase = graphpass.sweep(model, calibration, data, time_steps=[2, 3, 4], coding="phase")

print(f"original network: {rate[0].evaluation.ann.top1:.1%}\n")
print("code     T  levels   top-1  energy  spikes per neuron")
for row in [*rate, *phase]:
    found = row.evaluation
    energy = found.total_energy_ratio  # with memory traffic
    spikes = found.firing_rate * row.time_steps
    print(f"{row.coding:6} {row.time_steps:3} {row.levels:7} {found.snn.top1:7.1%} {energy:6.2f}× {spikes:12.2f}")

# %% [markdown]
# The energy includes memory traffic. By this measure, no setting takes less than the original, although its operations alone take
# less ([energy](../energy.md)). Still, the energy shows which setting takes less than another.
#
# The command line does the same, and `--report` writes a page with plots:
#
# ```sh
# graphpass sweep ann.onnx --calibration images.npz --data labelled.npz --time-steps 2,4,8,16 --report sweep.html
# ```
#
# In the rate code, T steps give T + 1 levels. In the phase code, a spike of step t counts 2^(T − t), so T steps give 2^T levels.
# Therefore the phase code reaches the same accuracy with fewer spikes. It has two disadvantages: the receiving neuron has to
# double its current in each step, and a lost spike can matter much more. Which code you can use depends on your hardware.
#
# ## Look

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(7, 4))
for rows, style in ((rate, "o-"), (phase, "s--")):
    energies = [row.evaluation.total_energy_ratio for row in rows]
    accuracies = [100 * row.evaluation.snn.top1 for row in rows]
    axes.plot(energies, accuracies, style, label=f"{rows[0].coding} code")
    for row, x, y in zip(rows, energies, accuracies, strict=True):
        axes.annotate(f"T = {row.time_steps}", (x, y), (4, -12), textcoords="offset points", fontsize=8)
axes.axhline(100 * rate[0].evaluation.ann.top1, color="grey", linewidth=1, label="original network")
axes.set(xlabel="energy of the spiking network / original", ylabel="top-1 accuracy, %")
axes.grid(alpha=0.3)
axes.legend()
plt.show()

# %% [markdown]
# ## Choose
#
# A simple rule is: among the settings that lose at most one point of accuracy, take the one with the least energy. Do not choose
# by smaller differences. The two networks differ on about 4 % of the 1,000 images. So the difference of their accuracies has a
# standard error of √0.04 / √1000, or 0.6 points. This is why T = 3 of the phase code can have a higher accuracy than T = 4.

# %%
ann = rate[0].evaluation.ann.top1
good = [row for row in [*rate, *phase] if ann - row.evaluation.snn.top1 <= 0.01]
for coding in ("rate", "phase"):
    best = min((row for row in good if row.coding == coding), key=lambda row: row.evaluation.total_energy_snn)
    ratio = best.evaluation.total_energy_ratio
    print(f"{coding}: T = {best.time_steps}, {best.evaluation.snn.top1:.1%} at {ratio:.2f} × the energy")
assert good

# %% [markdown]
# `graphpass convert … --max-drop 1.0` does all of this for you, with fewer conversions than a sweep ([search](../search.md)).
#
# ## Levels only where they are needed
#
# Until now, every site had all levels of T. With `levels="auto"`, graphpass measures how much each site loses with fewer levels,
# and distributes levels within a budget. `energy` is this budget: a share of the additions that all levels at every site would
# cause.

# %%
automatic = graphpass.convert(model, calibration, time_steps=16, levels="auto", energy=0.4)
found = graphpass.evaluate(model, automatic, data)
for site in automatic.plan.sites:
    print(f"{site.name:26} {site.levels:3} levels")
print(f"\n{automatic.plan.notes['levels']}")
print(f"{found.snn.top1:.1%} at {found.total_energy_ratio:.2f} × the energy")

# %% [markdown]
# The note compares two ways to spend this budget: more levels at sites that need them, or the same number of levels everywhere.
# It shows the errors of the scores, on calibration samples that were held out. Compare the accuracy with the rows T = 4 and T = 8
# of the rate code. [Calibration](../calibration.md#levels-of-each-site) explains how the levels are found.
#
# Next: [reading the report](4_reading_the_report.md).
