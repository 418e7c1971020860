"""Measurements: `python -m benchmarks.NAME`. A package, since another one of this name would hide a folder."""
