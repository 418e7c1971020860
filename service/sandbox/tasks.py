"""What runs inside the sandbox: literal table, name → function(arguments, folder, limits, progress) → JSON object.

A file argument is a path relative to folder/in, under the name that the user knows: messages and reports show its last
part. A model is an .onnx, or a .zip with one .onnx and its external data; data is an .npz, an .npy, a .zip of .npz
shards, or a .zip of images (by class); what a file is, is seen from its bytes. Options have the names, the meaning and
the defaults of the command line (`time_steps`, `image_size`, …), lists where it takes several values.

describe_model    {"file", "options"?: include, exclude, identity_sites}
                  → {"inputs": [{"name", "dtype", "shape"}], "outputs": [str], "opset", "nodes", "parameters", "sites":
                  [{"name", "kind", "axis", "layers"}], "left": [{"node", "op", "reason", "expected"}],
                  "spiking_layers", "weight_layers", "digest", "spiking": null, or of a converted network
                  {"time_steps", "coding", "levels", "method", "form", "model_sha256"}}
describe_dataset  {"file", "model"?, "options"?: image_size, mean, std}
                  → {"kind": "npz" | "npy" | "shards" | "images", "samples", "labels": bool,
                  "arrays": {name: {"dtype", "shape"}}}    shape: with the samples first, of the whole dataset
convert           {"model", "calibration"?, "plan"?, "options"?: time_steps, coding, method, form, include, exclude,
                  identity_sites, allow_partial, limit, seed, memory_budget, threads, image_size, mean, std}
                  writes out/snn.onnx, out/plan.json, and out/plan.npz where the method changes weights
                  → {"files": {name: bytes}, "time_steps", "coding", "levels", "method", "form", "sites": [str], "left",
                  "spiking_layers", "weight_layers", "samples"}
evaluate          {"ann", "snn", "dataset", "options"?: limit, threads, image_size, mean, std}
                  writes out/report.html, out/report.json → the evaluation of docs/formats.md
sweep             {"model", "calibration", "dataset", "options"?: time_steps, coding, method (lists), include, exclude,
                  identity_sites, allow_partial, calibration_limit, limit, seed, memory_budget, threads, image_size,
                  mean, std}
                  writes out/report.html, out/report.json → {"rows": the list of docs/formats.md}
evaluate_shard    {"ann", "snn", "dataset", "start", "stop", "measure": bool, "options"? of evaluate}
                  samples [start, stop); start is a multiple of SHARD_GRAIN. One shard, any, measures: it counts
                  operations and times the networks for all. → {"part": str, "samples": int}
reduce_shards     {"parts": [str]}    in the order of their samples
                  writes out/report.html, out/report.json → as evaluate; its figures are equal, bit for bit
check             {} → what confines this process: {"landlock": ABI or 0, "seccomp": bool, …}
"""

TASKS = {}
