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
# # 5. The service
#
# The service converts networks for people who do not have graphpass, over a web page or HTTP. In this tutorial you start it, then
# upload, convert, evaluate and download from Python.
#
# ## Start it
#
# In a terminal, you would type `graphpass serve` and open the link that it prints. Here, the notebook starts the service on a
# free port, with its files in a folder of its own, and reads the link.

# %%
import re
import subprocess

service = subprocess.Popen(
    ["graphpass", "serve", "--port", "0", "--data", "service-data"],
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
)
found = None
while not found:
    line = service.stdout.readline()
    assert line, "the service ended"
    found = re.search(r"(http://[\d.]+:\d+)/#key=(\S+)", line)
url, key = found.groups()
print(f"the page: {url}/#key=…")

# %% [markdown]
# The part behind `#` is the key. Requests without a key are refused. `graphpass keys create NAME` makes a key for somebody else, who
# then sees only their own files and jobs.
#
# ## Upload
#
# A `Client` takes the address and the key. When you upload a network, the service describes it, as `graphpass inspect` does.

# %%
from graphpass.client import Client

example = "examples/fashion_mnist"
client = Client(url, key)
model = client.upload_model(f"{example}/fashion_mnist.onnx")
calibration = client.upload_dataset(f"{example}/calibration.npz")
labelled = client.upload_dataset(f"{example}/evaluation.npz")

print(len(model.description["sites"]), "sites")
for left in model.description["left"]:
    print(f"{left['op']}: {left['reason']}")

# %% [markdown]
# The service opens users' files only in child processes. These have no access to the network or to other files. A broken or
# hostile file can end its own child process, and nothing else.
#
# ## Convert
#
# `convert` returns a job at once, and `wait` follows it. Options have the names of the command line. With a third file, the
# service also evaluates the result.

# %%
job = client.convert(model, calibration, labelled, time_steps=4)
stages = []
job.wait(lambda stage, done, total: stages.append(stage))
print("stages:", ", ".join(dict.fromkeys(stages)))
measured = job.result["evaluation"]
print(f"original {measured['ann']['top1']:.1%}, spiking {measured['snn']['top1']:.1%}")
print(f"energy: {measured['energy']['ratio']:.2f} × that of the original, with memory traffic")

# %% [markdown]
# If you close the client meanwhile, the job goes on. `client.job(id)` finds it again.
#
# ## Download
#
# The network, the plan, and the report are files of the job. Each download is checked against its SHA-256.

# %%
from pathlib import Path

job.download("snn.onnx")
job.download("report.html", "report")
for name in ("snn.onnx", "report.html"):
    print(f"{name}: {Path(name).stat().st_size / 1e6:.1f} MB")

# %% [markdown]
# The same options give the same bytes, wherever the conversion runs:

# %%
import graphpass

graphpass.convert(f"{example}/fashion_mnist.onnx", f"{example}/calibration.npz", "local.onnx", time_steps=4)
same = Path("local.onnx").read_bytes() == Path("snn.onnx").read_bytes()
print("equal files:", same)
assert same

# %% [markdown]
# ## Evaluate other settings
#
# Files are uploaded once, and further jobs refer to them. A sweep compares several T. An evaluation takes two networks and data.

# %%
sweep = client.sweep(model, calibration, labelled, time_steps=[2, 8]).wait()
for row in sweep.result["rows"]:
    print(f"T = {row['time_steps']}: {row['evaluation']['snn']['top1']:.1%}")
again = client.evaluate(model, job, labelled).wait()
assert again.result["evaluation"]["snn"]["top1"] == measured["snn"]["top1"]

# %% [markdown]
# ## The command line
#
# `--server` does the same from a terminal, with the key in `GRAPHPASS_KEY`.

# %%
import os

os.environ["GRAPHPASS_KEY"] = key
os.environ["URL"] = url

# %% language="bash"
# graphpass evaluate examples/fashion_mnist/fashion_mnist.onnx snn.onnx \
#     --data examples/fashion_mnist/evaluation.npz --server "$URL"

# %% [markdown]
# ## Stop it
#
# In a terminal, Ctrl+C ends the service. Unfinished jobs continue after the next start.

# %%
client.close()
service.terminate()
print("exit status:", service.wait(timeout=30))

# %% [markdown]
# [The service](../service.md) explains the page, all routes, and how to run it on several machines.
