"""Jobs and uploads that would run for ever: what hostile tenants flood a service with."""

import json

import httpx
import numpy as np

from tests.service.sandbox.hostile_files import empty_nodes, endless_loop, npz


def endless_inputs(http: httpx.Client) -> dict[str, str]:
    """A network that never comes to an end, and data for it: ids of `model` and `calibration`."""
    samples = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    model = http.post("/v1/models?name=loop.onnx", content=endless_loop().SerializeToString())
    data = http.post("/v1/datasets?name=few.npz", content=npz(x=samples))
    return {"model": model.raise_for_status().json()["id"], "calibration": data.raise_for_status().json()["id"]}


def endless_conversion(http: httpx.Client, inputs: dict[str, str]) -> str:
    """The address of a conversion that only its time limit ends."""
    answer = http.post("/v1/conversions", json=inputs)
    assert answer.status_code == 202, json.dumps(answer.json())
    return str(answer.headers["Location"])


def undescribed(number: int) -> bytes:
    """A model whose description only its time limit ends. Every number gives another model."""
    name = str(number).encode()
    return empty_nodes() + b"\x12" + bytes([len(name)]) + name  # producer_name
