"""Measurements: `python -m benchmarks.NAME`. A package, since another one of this name would hide a folder."""

import graphpass  # noqa: F401 before onnxruntime, which then sends nothing to its maker
