"""From a member to its result: convert, verify, compare, count. Every setting is kept as soon as it is known."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.assets import cache_folder
from benchmarks.zoo.entry import (
    Array,
    Arrays,
    Covered,
    Entry,
    Reason,
    Result,
    SettingResult,
    Variant,
    Verified,
    load_result,
)
from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import Conversion, convert, dataset_for
from graphpass.errors import CoverageError, UnsupportedModelError
from graphpass.evaluation.evaluate import EvaluationSettings, measure, open_pair
from graphpass.evaluation.metrics.score import Metric, Sampled, Score
from graphpass.evaluation.probing import ProbedGraph, probed_ann
from graphpass.evaluation.results import conversion_of
from graphpass.graph.model import Source, load, save
from graphpass.maths.metrics import Difference
from graphpass.network import Network, prepare
from graphpass.runtime.samples import run_padded, sample_axes
from graphpass.runtime.session import fixed_batch, input_specs, pad_inputs
from graphpass.sites.identities import place_identities
from graphpass.sites.sites import spike_driven
from graphpass.verification.forms import verify

CHECKED = ("phase", 4)


def model_path(name: str, variant: str, form: str) -> Path:
    """The path where a conversion at phase T = 4 is kept for timing."""
    suffix = variant.replace(" ", "_") or "activations"
    return cache_folder() / "zoo" / f"{name}-{suffix}-{form}.onnx"


def measured(name: str, entry: Entry, settings: Sequence[tuple[str, int]], folder: Path | None, threads: int) -> Result:
    """The member's result for the settings, beginning with what the folder holds of it. None: nothing is kept."""
    result = (folder and load_result(folder, name)) or Result(name, "")
    wanted = {key: [each for each in settings if not _has(result, key, each)] for key in entry.variants}
    if result.refusal or not any(wanted.values()):
        return result
    result = replace(result, date=date.today().isoformat())
    try:
        source = load(entry.model())
        networks = {key: prepare(source, selection) for key, selection in entry.variants.items()}
        work = MemberData(entry, source, threads)
        for key, missing in wanted.items():
            for coding, steps in missing:
                done = work.convert(networks[key], coding, steps)
                variant = result.variants.get(key) or Variant(work.covered(networks[key], done.proto))
                if (coding, steps) == CHECKED:
                    if folder:
                        forget(name, key)
                        keep(done.proto, model_path(name, key, "folded"))
                    variant = replace(variant, verified=work.verified(done))
                ann, row = work.row(done)
                variant = replace(variant, rows=(*variant.rows, row))
                sizes = {"calibration": work.calibration.samples or 0, "evaluation": work.evaluation.samples or 0}
                result = replace(result, ann=ann, **sizes).with_variant(key, variant)
                if folder:
                    result.save(folder)
    except (UnsupportedModelError, CoverageError) as error:
        result = replace(result, refusal=str(error).replace(f"{entry.model()}: ", ""))
        if folder:
            result.save(folder)
    return result


def _has(result: Result, key: str, setting: tuple[str, int]) -> bool:
    return key in result.variants and result.variants[key].row(*setting) is not None


def forget(name: str, variant: str) -> None:
    """Drop models of an earlier measurement."""
    for path in model_path(name, variant, "*").parent.glob(model_path(name, variant, "*").with_suffix(".*").name):
        path.unlink()


def keep(proto: onnx.ModelProto, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save(proto, path)


class MemberData:
    """The data and models that all settings of one member share."""

    def __init__(self, entry: Entry, source: Source, threads: int):
        self.entry, self.threads, self.samples = entry, threads, entry.samples()
        self.calibration, self.evaluation = (
            dataset_for(source.proto, path) for path in (self.samples.calibration, self.samples.evaluation)
        )

    def convert(self, network: Network, coding: str, steps: int, form: str = "folded") -> Conversion:
        return convert(
            network,
            self.calibration,
            time_steps=steps,
            coding=coding,
            form=form,
            allow_partial=self.entry.allow_partial,
            options=CalibrationOptions(threads=self.threads),
        )

    def covered(self, network: Network, proto: onnx.ModelProto) -> Covered:
        """Multiply-accumulates by what drives them, of one sample. proto: the network's folded form."""
        coverage, graph = network.coverage, network.graph.copy()
        place_identities(graph, coverage.sites)
        probed: ProbedGraph = probed_ann(graph, conversion_of(proto), self.threads)
        fixed = fixed_batch(input_specs(network.source))
        batch = next(iter(self.evaluation.batches(fixed or 1)))
        probed.run(pad_inputs(batch.inputs, fixed))
        dense = {name: counts.dense / (fixed or 1) for name, counts in probed.counts.items()}
        total = sum(dense.values())
        driven = [name for name, reason in spike_driven(graph, coverage.sites).items() if reason is None]
        reasons: dict[str, list[float]] = defaultdict(list)
        for left in coverage.left:
            reasons[left.reason].append(dense.get(left.node, 0.0) / total)
        return Covered(
            len(coverage.sites),
            coverage.weight_layers,
            total,
            sum(dense.get(name, 0.0) for name in driven) / total,
            tuple(Reason(text, len(shares), sum(shares)) for text, shares in reasons.items()),
        )

    def verified(self, done: Conversion) -> Verified:
        found = verify(done.proto, self.evaluation, limit=self.entry.verified, threads=self.threads)
        neurons, flips = (sum(getattr(site, key) for site in found.sites) for key in ("neurons", "flips"))
        return Verified(found.agrees, found.samples, neurons, flips)

    def row(self, done: Conversion) -> tuple[float | None, SettingResult]:
        """The ANN's number and the setting's."""
        plan, task = done.plan, self.entry.task
        counted = max(2, min(self.entry.counted, 64 // plan.time_steps))
        options = EvaluationSettings(batch=self.entry.batch, threads=self.threads, operation_samples=counted, rounds=1)
        pair = open_pair(done.network.source, done.proto, options)
        scores = {network: Score() for network in pair.sessions}
        difference = {network: Difference() for network in pair.sessions}
        labels, seen, metric = self.samples.known(task.labels) if task.labels else None, 0, self.metric()
        for batch in self.evaluation.batches(pair.fixed or self.entry.batch):
            outputs = {key: self.output(session, batch.inputs, pair.fixed) for key, session in pair.sessions.items()}
            own = None if labels is None else labels[seen : seen + batch.size]
            sampled = Sampled(batch.size, own, np.zeros(batch.size, bool))
            seen += batch.size
            (theirs,) = outputs["ann"].values()
            for network, given in outputs.items():
                scores[network] = scores[network].merge(metric.score(given, sampled, outputs["ann"]))
                difference[network] = difference[network].update(*given.values(), theirs)
        number = {key: task.number(score) for key, score in scores.items() if key != "ann" or not task.fidelity}
        found = measure(pair, self.evaluation)
        return number.get("ann"), SettingResult(
            plan.coding,
            plan.time_steps,
            plan.levels,
            number["snn"],
            number["baseline"],
            difference["snn"].cosine_similarity,
            difference["baseline"].cosine_similarity,
            found.firing_rate,
            found.energy.ratio,
            found.energy.quantised_ratio,
        )

    def metric(self) -> Metric:
        """The task's metric, fitted if it has to be."""
        metric, name = self.entry.task.metric, self.entry.task.output
        if not metric.trained:
            return metric
        return metric.fitted({name: self.samples.known("outputs")}, self.samples.known("classes"))

    def output(self, session: Any, inputs: Arrays, fixed: int | None) -> dict[str, Array]:
        """The task's output by its name."""
        name = self.entry.task.output or session.get_outputs()[0].name
        axes = sample_axes(session, pad_inputs(inputs, fixed)) if fixed else {}
        return {name: run_padded(session, inputs, fixed, axes)[name]}
