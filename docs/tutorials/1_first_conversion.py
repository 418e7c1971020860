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
# # 1. The first conversion
#
# You convert a small residual network for Fashion-MNIST into a spiking network, measure how much accuracy it loses, and run it in
# onnxruntime. This takes less than a minute. The network and its data are in the repository (`examples/fashion_mnist`). Start
# from the root of the repository.
#
# ## What would become neurons
#
# `inspect` reads the network and says where neurons would go. It needs no data.

# %% language="bash"
# graphpass inspect examples/fashion_mnist/fashion_mnist.onnx

# %% [markdown]
# A *site* is an activation that becomes spiking neurons. This network has five, all of them ReLU. Behind a site, a weight layer
# receives spikes instead of numbers, so it needs no multiplications.
#
# Two layers keep their multiplications. The first convolution reads the image, which is analogue. The classifier reads a mean over
# the image, and a mean of spikes is not a spike.
#
# ## Convert
#
# Calibration chooses thresholds and corrects weights on unlabelled samples: here 512 images of the training set. T is the
# number of time-steps. In the rate code, a neuron can send 0 to T spikes, so T = 4 gives five levels.

# %% language="bash"
# graphpass convert examples/fashion_mnist/fashion_mnist.onnx snn.onnx \
#     --calibration examples/fashion_mnist/calibration.npz --time-steps 4

# %% [markdown]
# The same in Python. Both write the same bytes, because calibration is deterministic.

# %%
import hashlib
from pathlib import Path

import graphpass

example = Path("examples/fashion_mnist")
conversion = graphpass.convert(
    example / "fashion_mnist.onnx", example / "calibration.npz", "from_python.onnx", time_steps=4
)
digests = {hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in ("snn.onnx", "from_python.onnx")}
print("different files:", len(digests))
assert len(digests) == 1

# %% [markdown]
# ## Measure
#
# `evaluate` runs both networks on labelled images that were not used for calibration.

# %% language="bash"
# graphpass evaluate examples/fashion_mnist/fashion_mnist.onnx snn.onnx \
#     --data examples/fashion_mnist/evaluation.npz

# %% [markdown]
# The first column is the original network (ANN), and the second is the spiking network (SNN). The third is the original with its
# activations rounded to as many levels. It shows what rounding alone would cost. The spiking network loses less, because
# calibration also corrects the weights.
#
# Most of the multiply-and-adds (MACs) have become additions (ACs), which take about a fifth of the energy. But each addition also
# reads a weight, and reads and writes a sum. The second table counts this memory traffic, too. It also has the same network with
# counts that are sent as numbers of few bits. The last line says whether spikes save energy. [Energy](../energy.md) explains the
# figures, and what they leave out.
#
# ## Run it
#
# The result is an ordinary ONNX file with the inputs and outputs of the original. `open_session` gives an
# `onnxruntime.InferenceSession`, which also knows the faster [native operators](../native.md) if they were built. Without graphpass,
# a session of your own runs the same file.

# %%
import numpy as np
import onnxruntime

images = np.load(example / "evaluation.npz")["image"][:200]
session = graphpass.open_session("snn.onnx")
stock = onnxruntime.InferenceSession("snn.onnx", providers=["CPUExecutionProvider"])
ann = onnxruntime.InferenceSession(example / "fashion_mnist.onnx", providers=["CPUExecutionProvider"])
classes = [each.run(None, {"image": images})[0].argmax(1) for each in (session, stock, ann)]
print(f"with native operators and without: {(classes[0] == classes[1]).sum()} of 200 images have the same class")
print(f"spiking and original network: {(classes[0] == classes[2]).sum()} of 200")
assert (classes[0] == classes[1]).all()

# %% [markdown]
# ## Is it really a spiking network?
#
# The file computes the *count* of spikes in one pass. So its cost does not grow with T. `verify` makes time explicit: it runs
# every time-step with binary spikes. Then it compares both with the definition of the neuron, count by count.

# %% language="bash"
# graphpass verify snn.onnx --data examples/fashion_mnist/evaluation.npz

# %% [markdown]
# All counts are equal. `--form unrolled` of `convert` writes the network with its time-steps, for study or for hardware.
#
# Next: [choosing T](3_choosing_time_steps.md).
