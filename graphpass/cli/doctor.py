"""What `graphpass doctor` checks: versions, execution providers, and what is missing."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from graphpass.errors import GraphpassError
from graphpass.runtime import native
from graphpass.runtime.providers import CPU, runtimes
from graphpass.wording import counted

if TYPE_CHECKING:
    from graphpass.cli.running import Form, Running

SHOWN = 3  # operators of those that the CPU runs
SAME = 0.05  # of the largest output: sums in another order move a count now and then, which moves outputs by less
PACKAGES = ("onnx", "onnx-graphsurgeon", "numpy", "protobuf", "pillow", "plotly")


@dataclass(frozen=True)
class Finding:
    """One line: what was looked for, what was found, what to do. broken: whether nothing works without it."""

    what: str
    found: str
    remedy: str = ""
    broken: bool = False


def doctor() -> list[Finding]:
    """Versions, execution providers and what runs on each, and what is missing with its remedy; the most important
    first. A small network is converted to every form and run on every provider.
    """
    found = [Finding("graphpass", version("graphpass")), Finding("Python", platform.python_version())]
    found += [_package(name) for name in PACKAGES]
    found += [*_runtimes(), *_providers(), _native()]
    return found if any(each.broken for each in found) else [*found, *_running()]


def _package(name: str) -> Finding:
    try:
        return Finding(name, version(name))
    except PackageNotFoundError:
        return Finding(name, "missing", f"pip install {name}", broken=True)


def _runtimes() -> list[Finding]:
    installed = runtimes()
    if not installed:
        return [Finding("onnxruntime", "missing", "pip install 'graphpass[cpu]' or 'graphpass[gpu]'", broken=True)]
    if len(installed) > 1:
        return [
            Finding(
                "onnxruntime",
                "both onnxruntime and onnxruntime-gpu",
                "they share a folder: pip uninstall both, then install one",
                broken=True,
            )
        ]
    return [Finding(name, number) for name, number in installed.items()]


def _providers() -> list[Finding]:
    try:
        import onnxruntime
    except ImportError as error:
        return [Finding("execution providers", f"none ({error})", "install onnxruntime", broken=True)]
    names = onnxruntime.get_available_providers()
    remedy = (
        "" if "CUDAExecutionProvider" in names else "for NVIDIA GPUs: pip install 'graphpass[gpu]' instead of [cpu]"
    )
    return [Finding("execution providers", ", ".join(names), remedy)]


def _native() -> Finding:
    path = native.library()
    if path is None:
        remedy = (
            "neurons run as function bodies; with a C++ compiler: pip install --force-reinstall --no-deps graphpass"
        )
        return Finding("native operators", "none", remedy)
    return Finding("native operators", f"{', '.join(native.providers())} ({path})")


def _running() -> list[Finding]:
    """A line for each execution provider: whether sessions start on it, as what neurons run, and which forms run."""
    from graphpass.cli.running import running, small_networks
    from graphpass.runtime.session import available_providers

    try:
        networks = small_networks()
        return [_provider(running(name, networks)) for name in available_providers()]
    except GraphpassError as error:
        return [Finding("a small network", error.what, "report this", broken=True)]


def _provider(found: "Running") -> Finding:
    if found.problem:
        remedy = "docs/native.md: which driver and which libraries it needs" if "CUDA" in found.provider else ""
        return Finding(found.provider, found.problem, remedy, found.provider == CPU)
    wrong = [form for form, each in found.forms.items() if each.apart > SAME]
    broken = [form for form, each in found.forms.items() if each.problem]
    texts = [] if all(_nowhere(each) for each in found.forms.values()) else [f"neurons: {found.neurons}"]
    if "CUDA" in found.provider:
        texts.append(f"TF32 {'on' if found.tf32 else 'off'}")
    by_text: dict[str, list[str]] = {}
    for form, each in found.forms.items():
        by_text.setdefault(_form(each), []).append(form)
    texts += [f"{', '.join(forms)}: {text}" for text, forms in by_text.items()]
    remedy = f"report this: {', '.join(wrong + broken)}" if wrong or (broken and found.provider == CPU) else ""
    return Finding(found.provider, "; ".join(texts), remedy, bool(remedy))


def _form(found: "Form") -> str:
    if found.problem:
        return f"does not run ({found.problem})"
    if found.apart > SAME:
        return f"outputs differ from those on the CPU by {100 * found.apart:.0f} %"
    if _nowhere(found):
        return "on the CPU instead"
    if not found.elsewhere:
        return "here"
    names = list(dict.fromkeys(found.elsewhere))
    more = " …" if len(names) > SHOWN else ""
    return f"{len(found.elsewhere)} of {counted(found.nodes, 'node')} on the CPU ({', '.join(names[:SHOWN])}{more})"


def _nowhere(found: "Form") -> bool:
    """Whether the provider ran none of its nodes."""
    return len(found.elsewhere) == found.nodes
