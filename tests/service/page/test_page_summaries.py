"""The page where answers are summaries: a network whose names are longer than any list shows."""

from pathlib import Path

import onnx
import pytest
from playwright.sync_api import expect

from tests.service.page.conftest import Opened
from tests.service.running import EXAMPLE, Server, example, finished, upload


@pytest.mark.slow
def test_a_network_of_long_names_is_shown(opened: Opened, server: Server, tmp_path: Path) -> None:
    proto = onnx.load(EXAMPLE / "fashion_mnist.onnx")
    for number, node in enumerate(proto.graph.node):
        node.name = f"{number}" + "n" * 20_000
    onnx.save(proto, tmp_path / "long.onnx")
    ids = {**example(server.http), "model": upload(server.http, "model", tmp_path / "long.onnx")["id"]}
    asked = {**ids, "options": {"time_steps": 2, "method": "max", "limit": 32}}
    job = finished(server.http, server.http.post("/v1/conversions", json=asked).headers["Location"])
    assert job["state"] == "succeeded" and job["result"]["omitted"] and job["result"]["evaluation"]["omitted"]
    page = opened(at=f"#/jobs/{job['id']}")
    expect(page.get_by_role("region", name="Both networks side by side")).to_contain_text("Top-1 accuracy")
    expect(page.locator(".plot svg.main-svg").first).to_be_visible()
    page.get_by_role("button", name="Run again with other options").click()
    expect(page.get_by_text("Spikes will reach 4 of 6 weight layers, from neurons at 5 sites")).to_be_visible()
