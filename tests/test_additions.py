"""What is changed or added in one table is seen everywhere, and every name is documented."""

from pathlib import Path

import pytest

from graphpass.evaluation.metrics.registry import CLASSES, METRICS
from graphpass.forms.integer.targets import TARGETS
from graphpass.forms.registry import FORMS, PRECISIONS
from graphpass.maths.energy import MODELS
from graphpass.maths.methods import METHODS
from graphpass.maths.neuron import CODINGS
from graphpass.options.providers import PROVIDERS
from graphpass.options.table import OPTIONS
from tests.additions import run

DOCS = Path(__file__).parents[1] / "docs"
KNOWN = {
    "coding": CODINGS,
    "method": METHODS,
    "form": FORMS,
    "precision": PRECISIONS,
    "target": TARGETS,
    "metric": (CLASSES, *METRICS),
    "provider": PROVIDERS,
    "energy_model": MODELS,
}
WRITTEN = {
    "coding": "neuron.md",
    "method": "calibration.md",
    "form": "formats.md",
    "precision": "formats.md",
    "target": "runtimes.md",
    "metric": "metrics.md",
    "energy_model": "energy.md",
}


@pytest.mark.parametrize("what", ["defaults", "kinds"])
def test_seen_everywhere(what: str, tmp_path: Path) -> None:
    run(what, tmp_path)


@pytest.mark.parametrize("option", KNOWN)
def test_the_names_of_an_option_are_those_of_its_registry(option: str) -> None:
    assert tuple(OPTIONS[option].names) == tuple(KNOWN[option])


@pytest.mark.parametrize("option", WRITTEN)
def test_every_name_is_documented(option: str) -> None:
    text = (DOCS / WRITTEN[option]).read_text("utf-8")
    assert [name for name in OPTIONS[option].names if name not in text] == []
