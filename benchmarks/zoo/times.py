"""Time of a member's ANN, folded and integer form at phase T = 4: on an idle machine, after it was measured.

Models are made if the cache lacks them; after a first run whose results are not kept, a second run only measures.
"""

from dataclasses import replace
from functools import partial

import onnx

from benchmarks.timing import Effort, alternate, machine
from benchmarks.zoo.entry import Entry, FormTimes, Result
from benchmarks.zoo.measure import CHECKED, MemberData, keep, model_path
from graphpass.errors import GraphpassError
from graphpass.graph.model import load
from graphpass.network import prepare
from graphpass.runtime.session import fixed_batch, input_specs, open_session, pad_inputs, run

EFFORT = Effort(3.0, 5, 51)
BATCH = 1


def prepare_models(name: str, entry: Entry, result: Result, threads: int) -> dict[str, str]:
    """Make the models to time if the cache lacks them. Returns the refusal of the integer form by variant."""
    source, work, refusals = load(entry.model()), None, {}
    for key in result.variants:
        for form in ("folded", "integer"):
            path = model_path(name, key, form)
            said = path.with_suffix(".refused")
            if said.exists():
                refusals[key] = said.read_text("utf-8")
            elif not path.exists():
                work = work or MemberData(entry, source, threads)
                try:
                    keep(work.convert(prepare(source, entry.variants[key]), *CHECKED, form).proto, path)
                except GraphpassError as error:
                    refusals[key] = str(error).replace(f"{source.path}: ", "")
                    said.write_text(refusals[key], "utf-8")
    return refusals


def timed(name: str, entry: Entry, result: Result, refusals: dict[str, str], threads: int) -> Result:
    """The result with its times."""
    source = load(entry.model())
    fixed = fixed_batch(input_specs(source))
    batch = next(iter(MemberData(entry, source, threads).evaluation.batches(fixed or BATCH)))
    inputs = pad_inputs(batch.inputs, fixed)
    size = fixed or BATCH
    for key, variant in result.variants.items():
        protos = {"ann": source.proto}
        for form in ("folded", "integer"):
            path = model_path(name, key, form)
            if path.exists():
                protos[form] = onnx.load(path)
        calls = {form: partial(run, open_session(proto, threads=threads), inputs) for form, proto in protos.items()}
        found = alternate(calls, EFFORT)
        milliseconds = {form: 1000 * timing.median / size for form, timing in found.items()}
        times = FormTimes(
            size,
            threads,
            milliseconds["ann"],
            milliseconds["folded"],
            milliseconds.get("integer"),
            refusals.get(key, ""),
            machine().partition(";")[0],
        )
        result = result.with_variant(key, replace(variant, times=times))
    return result
