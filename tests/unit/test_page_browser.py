"""The pages in a real browser: live, on a phone as on a screen, light and dark, by keyboard, and without JavaScript."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("jinja2")
playwright = pytest.importorskip("playwright.sync_api", reason="a real browser: make test installs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("a real browser: apt-get install chromium", allow_module_level=True)

from tests.unit.page_site import Site, desk_of_orders
from worker.page.pages import PAGES

#: Counts the event streams that a page holds open.
_COUNTED = """
window.streams = 0;
window.EventSource = class extends EventSource {
  constructor(...given) { super(...given); window.streams += 1; }
  close() { super.close(); window.streams -= 1; }
};
"""
#: What a browser says when a tab is left, and when somebody comes back to it.
_HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with desk_of_orders(tmp_path_factory.mktemp("desk"), risk={"currency": "USD", "max_open_orders": 3}) as (
        made,
        _,
        _,
    ):
        yield made


def opened(browser: Any, site: Site, path: str = "/", **how: Any) -> tuple[Any, list[str]]:
    """Open a page; returns it, and what the browser complains about."""
    page = browser.new_context(**how).new_page()
    page.set_default_timeout(15_000)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.add_init_script(_COUNTED)
    page.goto(f"http://127.0.0.1:{site.port}{path}")
    return page, said


def test_every_page_fits_and_the_browser_complains_of_nothing(browser: Any, site: Site) -> None:
    page, said = opened(browser, site)
    for path in (*(link for link, _ in PAGES), "/orders/p-fell"):
        page.goto(f"http://127.0.0.1:{site.port}{path}")
        page.wait_for_selector("#liveness.good")
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        for scheme, color in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 27)")):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == color, path
    assert said == []
    page.context.close()


def test_a_page_changes_by_itself_and_what_is_open_stays_open(browser: Any, site: Site) -> None:
    page, said = opened(browser, site)
    page.wait_for_selector("#liveness.good")
    page.click('details[data-key="p-rests"] summary')
    page.fill("#q", "half a wor")
    site.client.cancel("p-rests")
    page.wait_for_selector('tr:has(details[data-key="p-rests"]) .chip:text-is("canceled")')
    assert page.eval_on_selector('details[data-key="p-rests"]', "one => one.open")
    assert page.input_value("#q") == "half a wor"
    assert said == []
    page.context.close()


def test_a_hidden_page_holds_no_stream_and_comes_back(browser: Any, site: Site) -> None:
    page, _ = opened(browser, site, "/fleet")
    page.wait_for_selector("#liveness.good")
    assert page.evaluate("window.streams") == 1
    page.evaluate(_HIDE, True)
    assert page.evaluate("window.streams") == 0
    page.evaluate(_HIDE, False)
    assert page.evaluate("window.streams") == 1
    page.context.close()


def test_a_page_whose_server_is_gone_says_that_it_is_old(browser: Any, site: Site) -> None:
    page, _ = opened(browser, site)
    page.wait_for_selector("#liveness.good")
    page.context.set_offline(True)
    page.evaluate(_HIDE, True)
    page.evaluate(_HIDE, False)
    page.wait_for_selector("#liveness.bad")
    assert "old" in page.inner_text("#liveness")
    page.context.set_offline(False)
    page.wait_for_selector("#liveness.good")
    page.context.close()


def test_without_javascript_everything_is_there(browser: Any, site: Site) -> None:
    page, _ = opened(browser, site, "/?status=rejected", java_script_enabled=False)
    assert page.inner_text("#liveness") == "not live"
    page.click("summary")
    assert "refused" in page.inner_text("details")
    page.select_option("#status", "denied")
    page.click("text=Show")
    assert page.url.endswith("status=denied&broker=&symbol=&strategy=&q=")
    assert "it <b>sells</b> everything" in page.inner_text("main")
    page.context.close()


def test_the_keyboard_is_enough(browser: Any, site: Site) -> None:
    page, _ = opened(browser, site)
    page.wait_for_selector("#liveness.good")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "status"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.context.close()
