"""Running tasks of the sandbox from tests."""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from service.sandbox import runner
from service.sandbox.runner import Failed, Limits, Succeeded
from tests.service.sandbox.hostile_files import npz, tiny

HOSTILE = (sys.executable, "-I", "-B", "-X", "utf8", str(Path(__file__).with_name("hostile_tasks.py")))
SMALL = Limits(memory_bytes=1 << 30, cpu_seconds=20, wall_seconds=20, file_bytes=64 << 20, files=1000)
GENERATOR = np.random.default_rng(7)
CALIBRATION = npz(x=GENERATOR.normal(size=(40, 4)).astype(np.float32))
LABELLED = npz(x=GENERATOR.normal(size=(70, 4)).astype(np.float32), labels=GENERATOR.integers(0, 3, 70))
TINY = tiny().SerializeToString()
SAMPLES = npz(x=np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32))


@dataclass
class Box:
    """A folder of one task, and the events of its last run."""

    folder: Path
    limits: Limits = SMALL
    events: list[dict[str, Any]] = field(default_factory=list)

    def put(self, name: str, content: bytes) -> str:
        path = self.folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return name

    def run(self, task: str, arguments: Mapping[str, Any] | None = None) -> Succeeded | Failed:
        """Run a task of production."""
        return asyncio.run(runner.run(task, arguments or {}, self.folder, self.limits, self.events.append))

    def hostile(self, task: str, arguments: Mapping[str, Any] | None = None) -> Succeeded | Failed:
        """Run a task of hostile_tasks.py."""
        with mock.patch.object(runner, "COMMAND", HOSTILE):
            return self.run(task, arguments)

    def result(self, task: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run a task of production, which has to succeed, and return its result."""
        outcome = self.run(task, arguments)
        assert isinstance(outcome, Succeeded), outcome
        return outcome.result


def outputs(box: Box) -> dict[str, bytes]:
    """The files that a task wrote, by name."""
    return {path.name: path.read_bytes() for path in (box.folder / "out").iterdir()}


def refused(outcome: Succeeded | Failed, kind: str, rule: str, where: str = "file") -> None:
    assert isinstance(outcome, Failed), outcome
    assert (outcome.type, outcome.where) == (kind, where) and rule in outcome.what, outcome
    assert "/in/" not in outcome.what and "/tmp" not in outcome.what and outcome.remedy


def describe(box: Box, content: bytes, name: str = "model.onnx") -> Succeeded | Failed:
    return box.run("describe_model", {"file": box.put(name, content)})


def convert(box: Box, content: bytes, data: bytes = SAMPLES) -> Succeeded | Failed:
    names = {"model": box.put("model.onnx", content), "calibration": box.put("data.npz", data)}
    return box.run("convert", names)
