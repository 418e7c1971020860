"""/docs: Swagger UI from an installed package shows the API's own document and asks it, under the page's policy."""

import re

from playwright.sync_api import Browser, Request, expect

from tests.service.running import Server


def test_swagger_ui_shows_the_document_and_asks(browser: Browser, server: Server) -> None:
    context = browser.new_context()
    page = context.new_page()
    errors: list[str] = []
    asked: list[Request] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request))
    page.add_init_script(f"sessionStorage.setItem('graphpass.key', {server.key!r})")
    page.goto(f"{server.url}/docs")
    expect(page.get_by_role("heading", name=re.compile("graphpass"))).to_be_visible()
    row = page.locator("#operations-models-list_them_v1_models_get")
    row.get_by_role("button", name="v1").first.click()
    row.get_by_role("button", name="Try it out").click()
    row.get_by_role("button", name="Execute").click()
    expect(row.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
    assert {request.url for request in asked if not request.url.startswith((server.url, "data:", "blob:"))} == set()
    assert errors == []
    assert not page.evaluate("localStorage.length")
    context.close()
