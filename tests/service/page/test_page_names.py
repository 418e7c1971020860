"""Names of any kind stay text, and run nothing; however long they are, the page is as wide as its window."""

import io
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.service.page.conftest import DESKTOP, PHONE, Opened
from tests.service.running import Server, example, finished
from tests.service.sandbox.hostile_files import tiny

NAMES = {
    "markup": '"><img src=x onerror=alert(1)><script>alert(1)</script>',
    "one long word": "W" * 3000,
    "right to left": "abc\u202egnp.exe\u2066\u200f",
    "control characters": "a\nb\r\0\x1b[31m\x7f",
}
WATCH = """window.fired = []; window.alert = () => fired.push("alert");
addEventListener("securitypolicyviolation", (event) => fired.push(event.violatedDirective));
addEventListener("unhandledrejection",
  (event) => event.reason?.name === "AbortError" || fired.push(`${event.reason}`));"""


def named(name: str) -> bytes:
    """The network tiny() with this name wherever it may have one, and its data under the names of its inputs."""
    proto = tiny()
    renamed = {old: f"{name}{old}" for old in ("h", "a", "u", "w", "scores", "first", "relu", "last")}
    for node in proto.graph.node:
        node.name = renamed[node.name]
        node.input[:] = [renamed.get(each, each) for each in node.input]
        node.output[:] = [renamed[each] for each in node.output]
    for value in (*proto.graph.initializer, *proto.graph.output):
        value.name = renamed[value.name]
    proto.graph.name = proto.doc_string = proto.producer_name = name
    return proto.SerializeToString()


def converted(server: Server, name: str) -> str:
    """A network of hostile names, converted and evaluated: the address of its job on the page."""
    data = io.BytesIO()
    np.savez(data, x=np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32), labels=np.arange(40) % 3)
    ids = [
        server.http.post(f"/v1/{kind}", content=content, params={"name": f"{name[:190]}.{end}"}).json()["id"]
        for kind, content, end in (("models", named(name), "onnx"), ("datasets", data.getvalue(), "npz"))
    ]
    asked = {"model": ids[0], "calibration": ids[1], "evaluation": ids[1], "options": {"time_steps": 2}}
    job = finished(server.http, server.http.post("/v1/conversions", json=asked).headers["Location"])
    assert job["state"] == "succeeded", job
    return f"#/jobs/{job['id']}"


def sound(page: Page) -> None:
    """Nothing was run, and nothing is wider than the window."""
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.wait_for_load_state("networkidle")
    assert page.evaluate("fired") == []
    widths = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert widths[0] <= widths[1], page.url


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_are_text_and_fit(opened: Opened, server: Server, name: str) -> None:
    at = converted(server, name)
    for scheme, size in (("light", DESKTOP), ("dark", PHONE)):
        page = opened(scheme, size)
        page.context.add_init_script(WATCH)
        page.goto(f"{server.url}/{at}")
        page.reload()
        page.get_by_role("heading", name="Layer by layer").wait_for()
        sound(page)
        assert page.locator("main img, main script").count() == 0
        page.goto(f"{server.url}/#/jobs")
        page.get_by_role("link", name="Conversion of").first.wait_for()
        sound(page)
        page.goto(f"{server.url}/#/")
        region = page.get_by_role("region", name="1 · The network")
        model = server.http.get(f"/v1/conversions/{at.rpartition('/')[2]}").json()["request"]["model"]
        region.get_by_role("combobox").select_option(value=model)
        region.get_by_text("Spikes will reach").wait_for()
        sound(page)


def test_the_middle_of_a_character_is_no_place_to_cut_a_name(opened: Opened, tmp_path: Path) -> None:
    """A name longer than the service takes, whose 200th unit from the end is half of a character."""
    (bad := tmp_path / f"{'🙂' * 2}{'x' * 194}.onnx").write_bytes(b"no model")
    page = opened()
    page.get_by_label("for “1 · The network”").first.set_input_files(bad)
    expect(page.get_by_role("alert")).to_contain_text("The model is broken")


@pytest.mark.parametrize("key", ["gp_…", "%", "%E2", "“gp_x”", "ключ"])
def test_a_key_of_any_characters_is_refused_as_a_key(opened: Opened, server: Server, key: str) -> None:
    page = opened()
    page.get_by_role("button", name="Forget key").click()
    page.get_by_label("Key").fill(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("A valid key is needed")
    page.goto(f"{server.url}/docs.html")
    page.goto(f"{server.url}/#key={key}")
    expect(page.get_by_role("alert")).to_contain_text("A valid key is needed")


def test_what_fails_because_it_was_done_elsewhere_is_said(opened: Opened, server: Server) -> None:
    """A job that another tab has deleted; a list that the service does not answer for."""
    ids = example(server.http)
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": {"exclude": ["."]}}
    job = finished(server.http, server.http.post("/v1/conversions", json=asked).headers["Location"])
    page = opened(at=f"#/jobs/{job['id']}")
    page.context.add_init_script(WATCH)
    page.reload()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").wait_for()
    server.http.delete(job["links"]["self"])
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("alert").filter(has_text="There is no such object")).to_be_focused()
    page.goto(f"{server.url}/#/jobs")
    page.get_by_label("Show").wait_for()
    page.route("**/v1/jobs?*", lambda route: route.abort())
    page.get_by_label("Show").select_option("failed")
    expect(page.get_by_role("alert")).to_contain_text("The service does not answer")
    assert page.evaluate("fired") == []
