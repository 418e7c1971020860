"""The whole story in a browser: upload, convert, watch, look, download, compare, run again."""

import hashlib
import json
import re
from pathlib import Path

import onnx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.service.page.conftest import DESKTOP, PHONE, Opened, accessible, start, take_example
from tests.service.running import EXAMPLE, Server


def choose(page: Page, step: str, path: Path) -> None:
    page.get_by_label(f"for “{step}”").first.set_input_files(path)
    page.get_by_role("region", name=step).get_by_text(path.name).wait_for()


def test_upload_convert_watch_look_download(opened: Opened, server: Server, tmp_path: Path) -> None:
    page = opened()
    assert "key=" not in page.url  # not in the address, nor in the history
    choose(page, "1 · The network", EXAMPLE / "fashion_mnist.onnx")
    expect(page.get_by_text("Spikes will reach 4 of 6 weight layers")).to_be_visible()
    page.get_by_text("What becomes spiking, and what stays as it is").click()
    expect(page.get_by_role("row", name="/layers/layers.0/Conv Conv its input is")).to_be_visible()
    choose(page, "2 · Calibration data", EXAMPLE / "calibration.npz")
    choose(page, "3 · Evaluation data", EXAMPLE / "evaluation.npz")
    expect(page.get_by_role("region", name="3 · Evaluation data")).to_contain_text("1,000")

    page.get_by_label("Time-steps T").fill("4")
    expect(page.get_by_text("5 levels for each value")).to_be_visible()
    page.get_by_label("Phase code").check()
    expect(page.get_by_text("16 levels for each value")).to_be_visible()
    page.get_by_label("Rate code").check()
    page.get_by_text("More options").click()
    page.get_by_label("Calibration samples at most").fill("128")  # quicker
    page.get_by_label("Horowitz 2014").check()
    start(page)
    expect(page.get_by_role("progressbar", name="Calibrating the neurons")).to_be_visible()
    table = page.get_by_role("region", name="Both networks side by side")
    expect(table.get_by_role("row", name="Top-1 accuracy")).to_contain_text("93.20 %")
    assert page.title() == "Conversion of fashion_mnist.onnx – graphpass"
    expect(page.locator(".plot svg.main-svg").first).to_be_visible()  # drawn, under the content security policy
    pictures = page.get_by_role("region", name="Pictures")
    expect(pictures.locator(".plot svg.main-svg").first).to_be_visible()
    expect(pictures.get_by_role("img", name="Spikes of sample 0")).to_be_visible()
    expect(pictures).to_contain_text("Each row is a neuron: 32 of the")
    assert page.locator(".plot").count() == 4

    job = server.http.get(f"/v1/conversions/{page.url.rpartition('/')[2]}").json()
    for button, file, ending in (
        ("Spiking network (.onnx)", "snn.onnx", "fashion_mnist-snn-T4.onnx"),
        ("Plan (.json)", "plan.json", "-plan.json"),
        ("Report (.html)", "report.html", "-report.html"),
        ("Figures (.json)", "report.json", "-report.json"),
    ):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=button).click()
        assert waiting.value.suggested_filename.endswith(ending)
        waiting.value.save_as(tmp_path / file)
        assert hashlib.sha256((tmp_path / file).read_bytes()).hexdigest() == job["artifacts"][file]
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["time_steps"] == 4 and found["energy"]["model"] == "horowitz45"
    energy = page.get_by_role("region", name="Energy", exact=True)
    expect(energy).to_contain_text(found["energy"]["verdict"])
    expect(energy.get_by_role("row", name="Quantised ANN (3 bits)")).to_contain_text("µJ")

    page.get_by_role("button", name="Run again with other options").click()
    expect(page.get_by_label("Time-steps T")).to_have_value("4")
    expect(page.get_by_role("region", name="1 · The network")).to_contain_text("fashion_mnist.onnx")
    page.get_by_label("Max", exact=True).check()
    expect(page.get_by_role("group", name="Runtime")).to_have_count(0)
    page.get_by_label("Integer", exact=True).check()  # it has a runtime in place of a precision
    expect(page.get_by_role("group", name="Precision")).to_have_count(0)
    page.get_by_role("group", name="Runtime").get_by_label("TensorRT", exact=True).check()
    start(page)
    expect(page.get_by_text("max · integer for tensorrt")).to_be_visible()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Spiking network (.onnx)").click()
    waiting.value.save_as(tmp_path / "tensorrt.onnx")
    constants = onnx.load(tmp_path / "tensorrt.onnx").graph.initializer
    types = {tensor.data_type for tensor in constants}
    assert onnx.TensorProto.INT8 in types and onnx.TensorProto.UINT8 not in types


def test_a_search_shows_its_trials_and_what_was_chosen(opened: Opened) -> None:
    page = opened()
    take_example(page)
    page.get_by_label("Choose for me").check()
    expect(page.get_by_label("Time-steps T")).to_have_count(0)
    page.get_by_label("Largest loss, in points").fill("8")
    page.get_by_label("Percentile").check()
    page.get_by_text("More options").click()
    page.get_by_label("Calibration samples at most").fill("32")
    page.get_by_role("button", name="Start the search").click()
    path = page.get_by_role("region", name="How it was chosen")
    expect(path.get_by_role("row", name="chosen")).to_have_count(1, timeout=120_000)
    expect(path).to_contain_text("On the other half of the data it lost")
    expect(page.get_by_role("region", name="Both networks side by side")).to_be_visible()
    expect(page.get_by_role("button", name="Spiking network (.onnx)")).to_be_visible()
    accessible(page)


def test_a_ranking_leads_to_a_conversion_without_the_worst_sites(opened: Opened) -> None:
    page = opened()
    take_example(page)
    page.get_by_label("Rank the sites").check()
    page.get_by_label("Time-steps T").fill("2")
    page.get_by_label("Max", exact=True).check()
    page.get_by_text("More options").click()
    expect(page.get_by_label("What to measure")).to_have_count(0)
    page.get_by_label("Calibration samples at most").fill("32")
    page.get_by_role("button", name="Rank the sites").click()
    sites = page.get_by_role("region", name="Which sites cost the accuracy")
    expect(sites.get_by_role("row")).to_have_count(1 + 5)
    expect(sites).to_contain_text("T = 2, rate code, max, on 64 samples")
    expect(page.get_by_role("button", name="Report (.html)")).to_be_visible()
    expect(page.get_by_role("button", name="Spiking network (.onnx)")).to_have_count(0)
    accessible(page)
    page.get_by_role("button", name="Convert without neurons there").click()
    expect(page.get_by_label("Convert once")).to_be_checked()
    page.get_by_text("More options").click()
    assert page.get_by_label("Leave analogue").input_value().startswith("^/")
    start(page)
    expect(page.get_by_role("region", name="Both networks side by side")).to_be_visible()


@pytest.mark.slow
def test_the_report_opens(opened: Opened, job: str) -> None:
    page = opened(at=f"#/jobs/{job}")
    for again in (False, True):  # from the browser's cache, too
        page.get_by_role("link", name="Open the report").click()
        report = page.frame_locator("iframe")
        expect(report.get_by_role("heading", name="fashion_mnist.onnx as a spiking network")).to_be_visible()
        expect(report.locator(".figure svg.main-svg").first).to_be_visible()
        if not again:
            page.go_back()
            page.reload()
    accessible(page)


def test_a_report_has_no_rights(browser: Browser, server: Server, job: str) -> None:
    attempts = ("sessionStorage.length", "parent.sessionStorage.length", "top.location.hash = '#/evil'", "eval('1')")
    script = (
        "const output = document.querySelector('p'); const tell = (text) => { output.textContent += ' ' + text; }; "
    )
    script += "tell(origin); " + "".join(
        f"try {{ {attempt}; tell('broke out'); }} catch (error) {{ tell(error.name); }} " for attempt in attempts
    )
    script += "fetch('/evil').then(() => tell('fetched'), () => tell('offline'));"
    with browser.new_context() as context:
        page = context.new_page()
        page.route("**/report", lambda route: route.fulfill(body=f"<p></p><img src=/evil><script>{script}</script>"))
        page.goto(f"{server.url}/#key={server.key}")
        page.get_by_role("link", name="Jobs").click()
        page.goto(f"{server.url}/#/jobs/{job}/report")
        output = page.frame_locator("iframe").locator("p")
        expect(output).to_have_text("null SecurityError SecurityError SecurityError EvalError offline")
        assert "evil" not in page.url
    assert "/evil" not in server.output()


def test_the_page_offers_what_the_service_has(browser: Browser, server: Server) -> None:
    def change(route: Route) -> None:
        answer = route.fetch()
        found = answer.json()
        found["method"]["names"].append({"name": "median", "title": "Median", "meaning": "What was added."})
        found["method"]["default"], found["seed"]["default"], found["time_steps"]["usual"] = "max", 7, 5
        route.fulfill(response=answer, json=found)

    with browser.new_context() as context:
        page = context.new_page()
        page.route("**/v1/options", change)
        page.goto(f"{server.url}/#key={server.key}")
        expect(page.get_by_label("Max", exact=True)).to_be_checked()
        expect(page.get_by_label("Median")).to_be_visible()
        expect(page.get_by_label("Time-steps T")).to_have_value("5")
        page.get_by_text("More options").click()
        expect(page.get_by_label("Seed")).to_have_value("7")


def test_pictures_are_drawn_without_markup_and_in_the_colours_of_the_page(opened: Opened, job: str) -> None:
    """Whatever a sandbox says: plotly sees no tag but those of pictures, and the page loads nothing."""
    hostile = "<a href='https://evil/'>link</a><img src=/evil onerror=alert(1)>"

    def change(route: Route) -> None:
        text = {"title": hostile, "note": hostile, "summary": hostile}
        trace = {"type": "scatter", "x": [1, 2], "y": [1, 2], "mode": "text", "text": [hostile, "two<br>lines"]}
        layout = {"height": 200, "margin": {"t": 10}, "xaxis": {"title": {"text": hostile}}, "yaxis": {}}
        route.fulfill(json=[{**text, "data": [{**trace, "textfont": {"color": "--ink"}}], "layout": layout}])

    page = opened("dark")
    page.route("**/pictures", change)
    page.goto(f"{page.url.partition('#')[0]}#/jobs/{job}")
    drawn = page.get_by_role("region", name="Pictures")
    expect(drawn.locator("svg.main-svg").first).to_be_visible()
    assert drawn.locator("a, img").count() == 0 and drawn.locator("tspan.line").count() == 2
    expect(drawn.locator("figcaption")).to_have_text(hostile)
    shown = drawn.locator(".textpoint text").first
    expect(shown).to_have_text(hostile)
    assert shown.evaluate("each => each.style.fill") == "rgb(232, 235, 239)"  # --text in the dark


@pytest.mark.slow
def test_levels_of_each_site(opened: Opened) -> None:
    page = opened()
    take_example(page)
    page.get_by_label("Time-steps T").fill("16")
    page.get_by_label("Chosen for each site").check()
    page.get_by_label("Budget").select_option("Mean levels")
    page.get_by_role("button", name="Start the conversion").click()
    expect(page.get_by_role("alert")).to_contain_text("Mean levels: ")
    page.get_by_role("spinbutton", name="Mean levels").fill("6")
    accessible(page)
    page.get_by_label("Max", exact=True).check()
    start(page)
    row = page.get_by_role("region", name="Both networks side by side").get_by_role("row", name="Levels of a value")
    expect(row).to_have_text(re.compile(r"\d+–\d+, mean [56]\.\d"))
    expect(page.get_by_text("Levels chosen by sensitivity: mean")).to_be_visible()
    page.get_by_role("button", name="Run again with other options").click()
    expect(page.get_by_label("Chosen for each site")).to_be_checked()
    expect(page.get_by_role("spinbutton", name="Mean levels")).to_have_value("6")


def test_compare_over_t_from_a_conversion(opened: Opened, job: str) -> None:
    page = opened(at=f"#/jobs/{job}")
    page.get_by_role("button", name="Compare over T").click()
    page.wait_for_url("**/#/jobs/swe_*")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()


@pytest.mark.slow
def test_compare_over_t_then_convert_with_the_best(opened: Opened) -> None:
    page = opened()
    take_example(page)
    page.get_by_label("Compare over T").check()
    for steps in ("4", "8", "16", "32"):
        page.locator(f"#step-{steps}").uncheck()
    page.get_by_label("Optimal").uncheck()
    page.get_by_role("button", name="Start the comparison").click()
    expect(page.get_by_role("alert")).to_contain_text("No method is ticked.")
    page.get_by_label("Max", exact=True).check()
    start(page)
    plot = page.get_by_role("img", name="top-1 accuracy over T")
    expect(plot.locator("svg.main-svg").first).to_be_visible()
    page.get_by_label("Settings").select_option(label="T = 2, rate, 3 levels, max")
    expect(page.get_by_text("1,000 samples, T = 2, rate code, 3 levels.")).to_be_visible()
    page.get_by_role("button", name="Convert with these").click()
    expect(page.get_by_label("Time-steps T")).to_have_value("2")
    expect(page.get_by_label("Max", exact=True)).to_be_checked()


@pytest.mark.slow
def test_without_data(opened: Opened) -> None:
    page = opened()
    choose(page, "1 · The network", EXAMPLE / "fashion_mnist.onnx")
    choose(page, "3 · Evaluation data", EXAMPLE / "evaluation.npz")
    expect(page.get_by_role("region", name="3 · Evaluation data")).to_contain_text("1,000")  # the focus goes there
    data = page.get_by_role("region", name="2 · Calibration data")
    made_up = data.get_by_label("I have no data")
    made_up.check()
    expect(data.get_by_text("may be much worse than with real data")).to_be_visible()
    expect(data.get_by_label("Drop a file here")).to_have_count(0)
    assert page.evaluate("document.activeElement.id") == "synthetic"
    expect(page.locator("#announcer")).to_contain_text("The inputs will be made up.")
    accessible(page)
    page.get_by_label("Compare over T").check()
    page.get_by_role("button", name="Start the comparison").click()
    expect(page.get_by_role("alert")).to_contain_text("A comparison over T needs calibration data.")
    page.get_by_label("Convert once").check()
    page.get_by_label("Max", exact=True).check()
    page.get_by_text("More options").click()
    page.get_by_label("Calibration samples at most").fill("32")
    page.get_by_label("What to measure").fill("mine.py:f")
    page.get_by_role("button", name="Start the conversion").click()
    expect(page.get_by_role("alert")).to_contain_text("What to measure:")
    page.get_by_label("What to measure").fill("classes embedding")
    start(page)
    expect(page.get_by_role("heading", name="Results")).to_be_visible()
    table = page.get_by_role("region", name="Both networks side by side")
    expect(table.get_by_role("row", name="cosine (embedding)")).to_contain_text("0.9")
    expect(page.get_by_role("listitem").filter(has_text="probe accuracy (embedding)")).to_contain_text("the ANN’s 0.")
    expect(page.get_by_text("Calibrated on made-up inputs (no normalisation to match).")).to_be_visible()
    accessible(page)
    page.get_by_role("button", name="Run again with other options").click()
    expect(made_up).to_be_checked()
    made_up.uncheck()
    expect(data.get_by_label("Drop a file here")).to_be_visible()
    page.get_by_role("button", name="Start the conversion").click()
    expect(page.get_by_role("alert")).to_contain_text("tick “I have no data” there")


@pytest.mark.slow
def test_every_view_is_accessible_in_light_and_dark(opened: Opened, server: Server, job: str) -> None:
    for scheme, size in (("light", DESKTOP), ("dark", PHONE)):
        page = opened(scheme, size)
        take_example(page)
        accessible(page)
        page.goto(f"{server.url}/#/jobs")
        page.get_by_role("table").wait_for()
        accessible(page)
        page.goto(f"{server.url}/#/jobs/{job}")
        page.locator(".plot svg.main-svg").first.wait_for()
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") == size[0]  # nothing sticks out
        page.get_by_role("button", name="Forget key").click()
        page.get_by_role("heading", name="Your key").wait_for()
        accessible(page)


@pytest.mark.slow
def test_the_keyboard_is_enough(opened: Opened) -> None:
    page = opened()

    def tab_to(name: str, most: int = 60) -> None:
        for _ in range(most):
            page.keyboard.press("Tab")
            if name in page.evaluate("document.activeElement.innerText || document.activeElement.id"):
                return
        raise AssertionError(f"{name} is not reached with the Tab key")

    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    tab_to("Use the built-in example")
    page.keyboard.press("Enter")
    page.get_by_text("Spikes will reach 4 of 6 weight layers").wait_for()
    expect(page.locator("#announcer")).to_contain_text("The example is chosen")
    tab_to("time-steps")
    page.keyboard.press("Control+A")
    page.keyboard.type("2")
    tab_to("coding-rate")
    page.keyboard.press("ArrowRight")  # to the phase code; the focus stays in the form
    expect(page.get_by_label("Phase code")).to_be_checked()
    assert page.evaluate("document.activeElement.id") == "coding-phase"
    tab_to("method-optimal")
    page.keyboard.press("ArrowLeft")  # round to the last, which is the quickest
    expect(page.get_by_label("Max", exact=True)).to_be_checked()
    tab_to("Start the conversion")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Results").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Results"
    expect(page.get_by_text("T = 2 · phase, 4 levels")).to_be_visible()
    tab_to("Spiking network (.onnx)")
    with page.expect_download():
        page.keyboard.press("Enter")
