"""What goes wrong is shown with its remedy: bad files, wrong keys, jobs that fail, a service that goes away."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.service.page.conftest import Opened, accessible, start, take_example
from tests.service.running import EXAMPLE, Server, example, finished

PIECES = 24 * 2**20  # bytes of a file that goes in three pieces


def test_a_bad_model_is_refused_with_its_remedy(opened: Opened, tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"this is no model" * 100)
    page = opened()
    page.get_by_label("for “1 · The network”").first.set_input_files(bad)
    alarm = page.get_by_role("alert")
    expect(alarm).to_contain_text("The model is broken")
    expect(alarm).to_contain_text("bad.onnx")
    expect(alarm).to_contain_text("What to do:")
    accessible(page)
    page.get_by_label("for “1 · The network”").first.set_input_files(EXAMPLE / "fashion_mnist.onnx")
    expect(page.get_by_text("Spikes will reach 4 of 6 weight layers")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_what_is_missing_is_named_and_focused(opened: Opened) -> None:
    page = opened()
    page.get_by_role("button", name="Start the conversion").click()
    expect(page.get_by_role("alert")).to_contain_text("No network is chosen.")
    assert page.evaluate("document.activeElement.type") == "file"
    take_example(page)
    page.get_by_label("Time-steps T").fill("300")
    page.get_by_role("button", name="Start the conversion").click()
    expect(page.get_by_role("alert")).to_contain_text("Time-steps T")
    assert page.evaluate("document.activeElement.id") == "time-steps"


def test_a_wrong_key_is_refused_and_not_kept(opened: Opened, server: Server) -> None:
    page = opened()
    page.get_by_role("button", name="Forget key").click()
    page.get_by_label("Key").fill("gp_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("A valid key is needed")
    assert page.evaluate("Object.keys(sessionStorage).length") == 0
    page.get_by_label("Key").fill(server.key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Convert a network")).to_be_visible()
    assert page.evaluate("Object.values(localStorage).join()").find("gp_") == -1


@pytest.mark.slow
def test_a_job_that_fails_says_why_and_can_be_changed(opened: Opened, server: Server) -> None:
    ids = example(server.http)
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": {"exclude": ["."]}}
    url = server.http.post("/v1/conversions", json=asked).headers["Location"]
    job = finished(server.http, url)
    page = opened(at="#/jobs")
    row = page.get_by_role("row").filter(has_text="Failed").first
    assert "--exclude" in job["error"]["what"] and "--exclude leave a site" in job["error"]["remedy"]
    expect(row).to_contain_text("nothing to convert")
    expect(row).to_contain_text("excluded by “Leave analogue”")  # the page's own words
    accessible(page)
    row.get_by_role("link").click()
    expect(page.get_by_role("alert")).to_contain_text("and “Leave analogue” leave a site")
    page.get_by_role("button", name="Change it and run again").click()
    page.get_by_text("More options").click()
    expect(page.get_by_label("Leave analogue")).to_have_value(".")


def test_how_images_are_prepared(opened: Opened, server: Server, tmp_path: Path) -> None:
    """By a preset or by a pasted configuration, which also comes back where a job is run again."""
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        for number in range(4):
            picture = io.BytesIO()
            Image.new("L", (28, 28), 60 * number).save(picture, "PNG")
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(picture.getvalue())
            tar.addfile(member, io.BytesIO(picture.getvalue()))
    page = opened()
    page.get_by_label("for “1 · The network”").first.set_input_files(EXAMPLE / "fashion_mnist.onnx")
    page.get_by_label("for “2 · Calibration data”").first.set_input_files(tmp_path / "images.tar")
    page.get_by_role("region", name="2 · Calibration data").get_by_text("images.tar").wait_for()
    expect(page.get_by_role("progressbar")).to_have_count(0)  # both uploads have ended
    page.get_by_text("More options").click()
    accessible(page)
    page.get_by_label("Preparation of images").select_option("imagenet")
    page.get_by_label("Image processor").fill("{")
    page.get_by_role("button", name="Start the conversion").click()
    expect(page.get_by_role("alert")).to_contain_text("Image processor: This is not a JSON object.")
    config = {"size": {"height": 28, "width": 28}, "resample": 2, "image_mean": [0.5], "image_std": [0.5]}
    page.get_by_label("Image processor").fill(json.dumps(config))
    page.get_by_role("button", name="Start the conversion").click()
    expect(page.get_by_role("alert")).to_contain_text("exclude each other")
    page.get_by_label("Preparation of images").select_option("")
    start(page)
    job = finished(server.http, f"/v1/conversions/{page.url.rpartition('/')[2]}")
    assert job["request"]["options"]["preprocess"] == config and job["state"] == "succeeded"
    page.get_by_role("button", name="Run again with other options").click()
    page.get_by_text("More options").click()
    assert json.loads(page.get_by_label("Image processor").input_value()) == config


def test_cancel(opened: Opened, server: Server) -> None:
    page = opened()
    take_example(page)
    page.get_by_label("Compare over T").check()
    start(page)
    expect(page.locator(".state")).to_have_text("Running")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()
    assert server.http.get(f"/v1/sweeps/{page.url.rpartition('/')[2]}").json()["state"] == "cancelled"


def test_markup_in_names_stays_text(opened: Opened, server: Server, tmp_path: Path) -> None:
    named = tmp_path / "<img src=x onerror=alert(1)>.onnx"
    named.write_bytes(b"no model")
    page = opened()
    page.get_by_label("for “1 · The network”").first.set_input_files(named)
    expect(page.get_by_role("alert")).to_contain_text("The model is broken")
    assert page.locator("main img").count() == 0


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Server]:
    """A server that the test may kill."""
    (folder := tmp_path / "mortal").mkdir()
    with Server(folder) as server:
        yield server


@pytest.mark.slow
def test_the_service_is_killed_during_an_upload_and_during_a_job(
    opened: Opened, mortal: Server, tmp_path: Path
) -> None:
    key = mortal.new_key("acme")  # that of the link is renewed with every start
    page = opened(on=mortal, key=key)
    images = np.random.default_rng(0).random((PIECES // (28 * 28 * 4), 1, 28, 28), np.float32)
    large = tmp_path / "large.npz"
    np.savez(large, image=images)
    page.route("**/v1/uploads/*", lambda route: route.continue_())  # as slow as a proxy: there is time to kill it
    page.get_by_label("for “2 · Calibration data”").first.set_input_files(large)
    while page.evaluate("document.querySelector('progress')?.value ?? 0") < 0.3:
        page.wait_for_timeout(10)
    mortal.kill()
    expect(page.get_by_text("The connection is lost. Trying again")).to_be_visible()
    mortal.up()
    calibration = page.get_by_role("region", name="2 · Calibration data")
    expect(calibration).to_contain_text(f"{len(images):,}")
    with mortal.client(key) as http:
        stored = http.get("/v1/datasets").json()["items"][0]
    assert (stored["name"], stored["size"]) == ("large.npz", large.stat().st_size)

    take_example(page)
    page.get_by_label("Compare over T").check()
    for steps in ("4", "8", "16", "32"):
        page.locator(f"#step-{steps}").uncheck()
    page.get_by_label("Max", exact=True).check()
    page.get_by_label("Optimal").uncheck()
    start(page)
    expect(page.get_by_role("progressbar", name="Conversions of this comparison")).to_be_visible()
    mortal.kill()
    expect(page.get_by_text("The connection is lost; trying again")).to_be_visible()
    mortal.up()
    expect(page.get_by_role("heading", name="One of them in detail")).to_be_visible()


def test_a_search_that_finds_nothing_leads_to_a_ranking(opened: Opened, server: Server) -> None:
    page, ids = opened(), example(server.http)
    inputs = {"model": ids["model"], "calibration": ids["calibration"], "dataset": ids["evaluation"]}
    options = {"max_drop": 1e-9, "time_steps": 1, "method": "max", "limit": 32}
    url = server.http.post("/v1/searches", json={**inputs, "options": options}).headers["Location"]
    assert finished(server.http, url)["error"]["type"] == "/problems/goal"
    page.goto(f"{server.url}/#/jobs/{url.rpartition('/')[2]}")
    expect(page.get_by_role("alert")).to_contain_text("The outputs need these sites most")
    expect(page.get_by_role("button", name="Report (.html)")).to_be_visible()
    page.get_by_role("link", name="Open the report").click()
    expect(page.frame_locator("iframe").get_by_text("Which sites cost the accuracy")).to_be_visible()
    page.go_back()
    page.get_by_role("alert").get_by_role("button", name="Rank the sites").click()
    expect(page.get_by_role("radio", name="Rank the sites")).to_be_checked()
    expect(page.get_by_label("Time-steps T")).to_have_value("1")
    expect(page.get_by_label("Calibration samples at most")).to_have_value("32")
