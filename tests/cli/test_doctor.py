"""`graphpass doctor`: what runs on each execution provider, in a line each."""

from dataclasses import replace

import onnxruntime as ort
import pytest

from graphpass.cli import doctor as findings
from graphpass.cli import running as providers
from graphpass.cli.app import main
from graphpass.cli.doctor import Finding, doctor
from graphpass.cli.running import Form, Running, running, small_networks
from graphpass.errors import SessionError
from graphpass.forms.registry import FORMS
from graphpass.runtime import native
from graphpass.runtime.placement import placement

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
HERE = Form(nodes=9)
PARTLY = Form("", 13, ("QLinearConv", "Clip", "QLinearConv"))
ALL = {"folded": HERE, "unrolled": Form(nodes=11), "integer": Form(nodes=13)}


@pytest.fixture(scope="module")
def networks():
    return small_networks()


def typed(capsys, *words: str) -> tuple[int, str]:
    """The status of a command, and what it printed on one line."""
    with pytest.raises(SystemExit) as stopped:
        main(words)
    shown = capsys.readouterr()
    return int(stopped.value.code or 0), " ".join((shown.out + shown.err).replace("│", " ").split())


def test_as_a_user_types_it(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, printed = typed(capsys, "doctor")
    assert code == 0
    neurons = "native" if CPU in native.providers() else "function bodies"
    assert f"{CPU} neurons: {neurons}; folded, unrolled, integer, float16: here" in printed
    assert all(name in printed for name in ort.get_available_providers())


def test_a_provider_that_runs_nothing_itself(networks):
    """Azure's is in every wheel for the CPU; it takes no node of an ordinary network."""
    if "AzureExecutionProvider" not in ort.get_available_providers():
        pytest.skip("this onnxruntime has no such provider")
    found = findings._provider(running("AzureExecutionProvider", networks))
    assert found == Finding("AzureExecutionProvider", "folded, unrolled, integer, float16: on the CPU instead")


def test_the_cpu_runs_every_form(networks):
    found = running(CPU, networks)
    assert list(found.forms) == [*FORMS, "float16"] and not found.problem and not found.tf32
    assert all(not form.problem and not form.elsewhere and form.nodes for form in found.forms.values())
    assert all(form.apart < findings.SAME for form in found.forms.values())


def test_operators_are_counted_where_they_ran(networks):
    ops = placement(networks["folded"], [CPU], {"x": providers.inputs()}).ops
    assert list(ops) == [CPU] and ops[CPU].count("Conv") == 2


def test_a_provider_that_does_not_start(networks, monkeypatch):
    def fails(*_):
        raise SessionError("the model: onnxruntime cannot load it (CUDA failure 35)", "see it")

    monkeypatch.setattr(providers, "placement", fails)
    found = running(CUDA, networks)
    assert found == Running(CUDA, "the model: onnxruntime cannot load it (CUDA failure 35)")
    assert "docs/native.md" in findings._provider(found).remedy and not findings._provider(found).broken
    assert findings._provider(replace(found, provider=CPU)).broken

    def elsewhere(proto, wanted, feeds):
        return placement(proto, [CPU], feeds)

    monkeypatch.setattr(providers, "placement", elsewhere)
    assert running(CUDA, networks) == Running(CUDA, "no session starts on it")


@pytest.mark.parametrize(
    ("found", "text", "remedy"),
    [
        (Running(CUDA, "", "native", False, ALL), "neurons: native; TF32 off; folded, unrolled, integer: here", ""),
        (Running(CUDA, "", "native", True, ALL), "neurons: native; TF32 on; folded, unrolled, integer: here", ""),
        (
            Running(CUDA, "", "native", False, {**ALL, "integer": PARTLY}),
            "neurons: native; TF32 off; folded, unrolled: here; integer: 3 of 13 nodes on the CPU (QLinearConv, Clip)",
            "",
        ),
        (
            Running(CUDA, "", "function bodies", False, {**ALL, "integer": Form("no kernel")}),
            "neurons: function bodies; TF32 off; folded, unrolled: here; integer: does not run (no kernel)", "",
        ),
        (
            Running(CPU, "", "native", False, {"folded": HERE, "unrolled": Form("", 11, (), 0.5)}),
            "neurons: native; folded: here; unrolled: outputs differ from those on the CPU by 50 %",
            "report this: unrolled",
        ),
    ],
)  # fmt: skip
def test_lines(found, text, remedy):
    assert findings._provider(found) == Finding(found.provider, text, remedy, bool(remedy))


def test_what_is_missing_comes_first(monkeypatch, capsys):
    """Where something is broken, nothing is converted."""
    monkeypatch.setattr(findings, "PACKAGES", ("no-such-package",))
    monkeypatch.setattr(findings, "_running", lambda: pytest.fail("ran a network"))
    assert [each.what for each in doctor() if each.broken] == ["no-such-package"]
    code, printed = typed(capsys, "doctor")
    assert code == 2 and "doctor found 1 problem;" in printed
