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
# # 4. Reading the report and the raster
#
# You read the figures of an evaluation layer by layer, to see where accuracy is lost and where energy goes. Then you look at the
# spikes themselves. Pictures need `pip install 'graphpass[cpu,images]'` and a Chromium or Chrome.
#
# ## The report

# %%
import graphpass

example = "examples/fashion_mnist"
conversion = graphpass.convert(f"{example}/fashion_mnist.onnx", f"{example}/calibration.npz", "snn.onnx", time_steps=8)
found = graphpass.evaluate(f"{example}/fashion_mnist.onnx", "snn.onnx", f"{example}/evaluation.npz")
graphpass.save_report(found, "report.html")

print(f"top-1       original {found.ann.top1:.1%}, spiking {found.snn.top1:.1%}")
print(f"same class  {found.agreement:.1%}")

# %% [markdown]
# `report.html` is one file that needs no connection to the internet. It has all of the following figures, with plots. `--report`
# of `graphpass evaluate` writes the same page.
#
# Look at the *agreement* first: the share of samples for which both networks choose the same class. Two networks can have the
# same accuracy and still be wrong on different samples. The agreement shows that, and it needs no labels.
#
# ## Where accuracy is lost
#
# The error of a site compares its output with the same activation of the original: Σ(y − a)² / Σ(a − ā)². It is 0 if they are equal,
# and 1 if the site is no better than a constant.

# %%
print(f"{'site':26} {'neurons':>7} {'rate':>6} {'error':>7}")
for site in found.sites:
    print(f"{site.name:26} {site.neurons:7} {site.firing_rate:6.1%} {site.error:7.2%}")

# %% [markdown]
# Errors usually grow from site to site, because each layer also receives the errors of those in front of it. If the error of a
# site is much larger than that of its neighbours, give this site more levels, or leave it analogue with `--exclude`.
#
# The firing rate is spikes / (neurons · T). A low rate saves energy. A rate near 100 % means that the neurons are saturated: many
# activations are above the largest level.
#
# ## Where energy goes
#
# A layer that gets spikes makes additions (ACs). A layer that gets numbers makes multiply-and-adds (MACs).

# %%
prices = {"spikes": 0.9, "analogue": 4.6}  # pJ for an addition, for a multiply-and-add
print(f"{'layer':28} {'input':9} {'operations':>10} {'energy':>9}")
for layer in found.operations.layers:
    print(
        f"{layer.name:28} {layer.input:9} {layer.effective:10,.0f} {layer.effective * prices[layer.input] / 1e6:6.2f} µJ"
    )
print(f"\noperations alone: {found.energy_snn / 1e6:.2f} µJ; the original: {found.energy_ann / 1e6:.2f} µJ")

# %% [markdown]
# This is the energy of operations alone. `found.energy` also counts memory traffic, which takes most of the energy
# ([energy](../energy.md)). `dense` of each layer is the number of operations if nothing were zero. The difference shows how much
# silent neurons save.
#
# ## The spikes
#
# A raster shows one sample. On the left are some neurons of each site: a row for each neuron, a column for each time-step, a mark for
# each spike. On the right is the share of all neurons of the site that spike in each step.

# %%
from IPython.display import Image

graphpass.save_picture(graphpass.plot_raster("snn.onnx", f"{example}/evaluation.npz", sample=0), "raster.png")
Image("raster.png", width=900)

# %% [markdown]
# In the rate code, all spikes of a neuron come in the last steps. The reason is that step t fires if the neuron sends at least T
# − t + 1 spikes in all ([sorting](../neuron.md#sorting)). The further a row reaches to the left, the larger is the activation. An
# empty row is a zero.
#
# ## What a neuron sees
#
# The last picture shows the inputs of the neurons of a site over 64 samples, with their thresholds. On the right, it shows how
# often neurons send each number of spikes.

# %%
site = found.sites[1].name
graphpass.save_picture(graphpass.plot_thresholds("snn.onnx", f"{example}/evaluation.npz", site=site), "thresholds.png")
Image("thresholds.png", width=900)

# %% [markdown]
# Values below the first threshold give no spike, and values above the last threshold give T spikes. Calibration places the
# thresholds where the error is least, so rare large values may lie beyond the last one.
#
# Next: [the service](5_the_service.md).
