"""The report in a real browser, used as a person would: marks, links, filters, colour schemes, no console error."""

from __future__ import annotations

import pytest

from learning_signal.ledger.read.reader import Reader
from learning_signal.viewer.page import report
from learning_signal.viewer.page.report import session_page
from tests.support.browser import chromium
from tests.support.recorded_ledger import recorded_ledger


@pytest.fixture(scope="module")
def browser():
    yield from chromium()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    with Reader.open(recorded_ledger(folder / "ledger.db")) as reader:
        (folder / "report.html").write_text(session_page(reader), encoding="utf-8")
    return (folder / "report.html").as_uri()


@pytest.fixture
def page(browser, address):
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    assert said == []
    assert {url.partition("#")[0] for url in asked} == {address}
    page.close()


def test_two_clicks_lead_from_the_curve_to_the_sentence_that_caused_it(page):
    page.locator('svg a[href="#R1"] text').first.click()
    assert page.url.endswith("#R1") and page.locator("article:target").is_visible()
    page.locator('article#R1 a:text-is("diagnosis")').click()
    event = page.locator(".event.here")
    event.wait_for()
    assert event.is_visible() and "No agent comes near a landmark." in event.inner_text()
    box = event.bounding_box()
    assert 0 <= box["y"] < 800


def test_an_address_with_an_event_opens_it(page, address):
    page.goto(address + "#e24")
    page.reload()
    event = page.locator("#e24")
    event.wait_for()
    assert event.get_attribute("open") is not None and "submit_diagnosis" in event.inner_text()


def test_filters_leave_what_was_asked_for(page):
    page.locator("#agent").select_option("coordinator")
    page.locator("#kind").select_option("llm_call")
    page.wait_for_function("document.getElementById('found').textContent !== ''")
    shown = page.locator(".event:visible")
    assert shown.count() > 0 and f"{shown.count()} event" in page.locator("#found").inner_text()
    assert all("coordinator" in text for text in shown.all_inner_texts())
    page.locator("#wanted").fill("no such words anywhere")
    page.wait_for_function("document.getElementById('found').textContent === '0 events'")
    assert page.locator(".event:visible").count() == 0


def test_all_can_be_opened_and_closed_by_keyboard(page):
    page.locator("#open").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('details.event[open]').length > 50")
    page.locator("#close").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('details[open]').length === 0")


def test_nothing_is_wider_than_the_page_and_text_stands_out_in_both_schemes(page):
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        ink, paper = page.evaluate(
            "['color', 'backgroundColor'].map(name => getComputedStyle(document.body)[name].match(/\\d+/g).map(Number))"
        )
        assert abs(sum(ink) - sum(paper)) > 450
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_packed_decisions_of_a_long_session_are_there_at_once(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "PLAIN", 0)
    with Reader.open(recorded_ledger(tmp_path / "ledger.db")) as reader:
        (tmp_path / "report.html").write_text(report.session_page(reader), encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri() + "#R1")
    article = page.locator("article#R1")
    article.locator("svg.arms").first.wait_for()
    assert "No agent comes near a landmark." in article.inner_text()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_report(browser, address, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = browser.new_page(bypass_csp=True)  # axe puts a script into the page
    page.emulate_media(color_scheme=scheme)
    page.goto(address)
    page.locator("details.part").first.locator("summary").first.click()
    page.locator(".event").first.wait_for()
    found = axe.run(page).response["violations"]
    assert [f"{each['id']}: {each['nodes'][0]['html'][:120]}" for each in found] == []
    page.close()
