"""What `graphpass doctor` checks: versions, execution providers, and what is missing."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from graphpass.runtime import native

RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
PACKAGES = ("onnx", "onnx-graphsurgeon", "numpy", "protobuf", "pillow", "plotly")


@dataclass(frozen=True)
class Finding:
    """One line: what was looked for, what was found, what to do. broken: whether nothing works without it."""

    what: str
    found: str
    remedy: str = ""
    broken: bool = False


def doctor() -> list[Finding]:
    """Versions, execution providers, and what is missing with its remedy; the most important first."""
    found = [Finding("graphpass", version("graphpass")), Finding("Python", platform.python_version())]
    found += [_package(name) for name in PACKAGES]
    return [*found, *_runtimes(), *_providers(), _native()]


def _package(name: str) -> Finding:
    try:
        return Finding(name, version(name))
    except PackageNotFoundError:
        return Finding(name, "missing", f"pip install {name}", broken=True)


def _runtimes() -> list[Finding]:
    installed = {}
    for name in RUNTIMES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
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
        remedy = "neurons run as function bodies; with a C++ compiler: pip install --force-reinstall graphpass"
        return Finding("native operators", "none", remedy)
    return Finding("native operators", f"{', '.join(native.providers())} ({path})")
