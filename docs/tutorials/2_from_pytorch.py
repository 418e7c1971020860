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
# # 2. From PyTorch
#
# You convert a PyTorch module, calibrate it with a `DataLoader`, and get a PyTorch module back. This needs
# `pip install 'graphpass[cpu,torch]'`.
#
# ## A trained module
#
# Any `torch.nn.Module` will do. To have one that is trained, the next cell builds the network of the first tutorial and takes its weights
# from the ONNX file.

# %%
import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

example = "examples/fashion_mnist"


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu2 = nn.ReLU()

    def forward(self, x):
        return self.relu2(x + self.conv2(self.relu1(self.conv1(x))))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        layers = []
        for before, after in ((1, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*layers[:-1], Residual(64))
        self.classifier = nn.Linear(64, 10)

    def forward(self, image):
        return self.classifier(self.layers((image - 0.286) / 0.353).mean((2, 3)))


module = Network()
trained = [numpy_helper.to_array(each) for each in onnx.load(f"{example}/fashion_mnist.onnx").graph.initializer]
with torch.no_grad():
    for parameter, value in zip(module.parameters(), [*trained[2:], *trained[:2]], strict=True):
        parameter.copy_(torch.tensor(value))

# %% [markdown]
# ## Data
#
# Calibration takes the loader that you already have. It uses the first element of each batch, so the loader may also give labels.

# %%
arrays = np.load(f"{example}/evaluation.npz")
calibration = DataLoader(TensorDataset(torch.tensor(np.load(f"{example}/calibration.npz")["image"])), batch_size=64)
labelled = DataLoader(
    TensorDataset(torch.tensor(arrays["image"]), torch.tensor(arrays["labels"].astype(np.int64))), batch_size=64
)

# %% [markdown]
# ## Convert
#
# PyTorch exports the module to ONNX, and graphpass converts the result. Only the sizes of the example input matter, and not its values.

# %%
import graphpass

conversion = graphpass.from_torch(module, torch.zeros(2, 1, 28, 28), calibration, "snn.onnx", time_steps=4)
for site in conversion.plan.sites:
    print(site.name, site.levels)

# %% [markdown]
# Sites have the names of the modules. So you can leave some of them analogue by name, for example with
# `exclude=["layers.8"]`.
#
# ## Measure

# %%
found = graphpass.evaluate(conversion.network, conversion, labelled)
print(
    f"original {found.ann.top1:.1%}, spiking {found.snn.top1:.1%}, {found.energy_snn / found.energy_ann:.2f} × the energy of operations"
)

# %% [markdown]
# ## A module again
#
# `to_torch` gives a module that runs the spiking network in onnxruntime. It takes and returns tensors, but no gradients flow
# through it.

# %%
snn = conversion.to_torch()
images, labels = next(iter(labelled))
with torch.no_grad():
    ours, theirs = snn(images).argmax(1), module(images).argmax(1)
print(f"same class as the original module: {(ours == theirs).sum()} of {len(images)}")
print(f"right: {(ours == labels).sum()} of {len(images)}")

# %% [markdown]
# Next: [choosing T](3_choosing_time_steps.md).
