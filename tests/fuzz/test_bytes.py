"""The same network, data and options give the same bytes: in another process, by the plan, in every form."""

import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import convert
from graphpass.forms.registry import FORMS
from graphpass.graph.model import load
from graphpass.graph.plan import load_plan, save_plan
from graphpass.maths.methods import METHODS
from graphpass.network import prepare
from graphpass.sites.sites import Selection
from tests.fuzz.networks import network

SEED = 16  # branches, a gate, a pyramid of poolings, a fixed batch or none: most kinds of layers
OPTIONS = CalibrationOptions(threads=1)


def digest(proto: onnx.ModelProto) -> str:
    return hashlib.sha256(proto.SerializeToString()).hexdigest()


@pytest.fixture(scope="module")
def ann(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bytes")
    drawn = network(SEED, samples=16)
    onnx.save(drawn.model, folder / "ann.onnx")
    np.savez(folder / "x.npz", x=drawn.inputs)
    return folder / "ann.onnx"


@pytest.mark.some(3)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("coding", ["rate", "phase"])
def test_a_saved_plan_gives_the_bytes_of_the_conversion_that_saved_it(ann, coding, method, tmp_path):
    """… whatever order in memory the arrays of the plan have: an .npz gives back another."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs = dict(np.load(ann.with_name("x.npz")))
        known = prepare(load(ann), Selection(identity_sites=method == "max"))
        for form in FORMS:
            done = convert(known, inputs, coding=coding, method=method, form=form, time_steps=3, options=OPTIONS)
            save_plan(done.plan, tmp_path / "plan.json")
            again = convert(known, plan=load_plan(tmp_path / "plan.json"), form=form)
            assert digest(again.proto) == digest(done.proto)


SCRIPT = """
import sys, warnings
warnings.simplefilter("ignore")
from tests.fuzz.test_bytes import all_digests
print(all_digests(sys.argv[1]))
"""


def all_digests(path: str) -> str:
    """Of every form and code, and of the plans."""
    inputs, found = dict(np.load(Path(path).with_name("x.npz"))), []
    for coding in ("rate", "phase"):
        plan = None
        for form in FORMS:
            done = convert(path, None if plan else inputs, coding=coding, form=form, time_steps=3, plan=plan,
                           options=OPTIONS)  # fmt: skip
            plan = done.plan
            found.append(digest(done.proto))
    return " ".join(found)


def test_another_process_gives_the_same_bytes(ann):
    """Sets and dictionaries are in another order there."""
    answers = set()
    for hash_seed in ("0", "1", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(ann)], check=True, capture_output=True, text=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed}, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        answers.add(done.stdout.strip())
    assert len(answers) == 1 and len(next(iter(answers)).split()) == 2 * len(FORMS)
