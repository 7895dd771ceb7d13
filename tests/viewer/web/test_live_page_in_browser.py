"""The live page in a real browser, used as a person would; every page is looked at by axe, in both colour schemes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from learning_signal.viewer.web.guard import Door
from learning_signal.viewer.web.listening import listening
from learning_signal.viewer.web.site import site
from tests.support.browser import chromium
from tests.support.ledger_helpers import begin
from tests.support.recorded_ledger import RECORDED_ID, recorded_ledger

TOKEN = "t" * 32
DRAWN = {"note": "Nothing is drawn: this is a test.", "start": None, "rounds": {}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from chromium()


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_ledger(tmp_path_factory.mktemp("live") / "ledger.db")


@contextmanager
def served(ledger: Path) -> Iterator[str]:
    """The address of a server of a ledger, in a thread."""
    with closing(listening("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        application = site(ledger, Door(TOKEN, False, "127.0.0.1", port), lambda reader, session: DRAWN)
        settings = uvicorn.Config(application, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(10)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def address(ledger: Path) -> Iterator[str]:
    """A server of the recorded ledger."""
    with served(ledger) as address:
        yield address


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page that entered with the token; it may ask nothing of another host, and the console stays empty."""
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}/?token={TOKEN}")
    yield page
    page.close()
    assert said == []
    assert [url for url in asked if not url.startswith((address, "data:"))] == []


def test_two_clicks_lead_from_the_curve_to_the_sentence_that_caused_it(page: Any, address: str) -> None:
    assert page.url == f"{address}/", "the token is out of the address"
    page.locator("a.step").click()
    page.locator('svg a[href="#R1"] text').first.click()
    page.wait_for_url(f"**/session/{RECORDED_ID}/R1")
    page.locator('a:text-is("diagnosis")').click()
    event = page.locator(".event.here")
    event.wait_for()
    event.locator("text=No agent comes near a landmark.").first.wait_for()
    assert 0 <= event.bounding_box()["y"] < 800


def test_an_event_opens_in_place_and_as_it_was_sent(page: Any, address: str) -> None:
    page.goto(f"{address}/session/{RECORDED_ID}?kind=llm_call&agent=critic")
    first = page.locator(".event").first
    first.locator("summary").click()
    first.locator('a:text-is("as it was sent and answered")').click()
    page.locator("text=system prompt").first.wait_for()


def test_filters_change_the_transcript_alone_and_stand_in_the_address(page: Any, address: str) -> None:
    page.goto(f"{address}/session/{RECORDED_ID}")
    page.locator("select[name=agent]").select_option("coordinator")
    page.wait_for_url("**agent=coordinator**")
    shown = page.locator(".event")
    shown.first.wait_for()
    assert shown.count() > 0 and all("coordinator" in each for each in shown.all_inner_texts())
    page.locator("#wanted").fill("no such words anywhere")
    page.locator("text=No event fits these filters.").wait_for()
    page.go_back()
    page.locator(".event").first.wait_for()


def test_keys_lead_through_events_and_rounds(page: Any, address: str) -> None:
    page.goto(f"{address}/session/{RECORDED_ID}")
    focused = "document.activeElement.closest('.event')?.id"
    ids = page.locator(".event").evaluate_all("all => all.map(each => each.id)")
    for key, place in (("j", 0), ("j", 1), ("j", 2), ("k", 1)):
        page.keyboard.press(key)
        assert page.evaluate(focused) == ids[place]
    page.keyboard.press("Enter")
    page.locator(f"#{ids[1]}[open]").wait_for()
    page.keyboard.press("]")
    entered = page.evaluate("document.activeElement.closest('.event').dataset.round")
    assert entered == "1"
    page.keyboard.press("]")
    assert page.evaluate("document.activeElement.closest('.event').dataset.round") == "2"
    page.keyboard.press("[")
    assert page.evaluate("document.activeElement.closest('.event').dataset.round") == "1"
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    page.locator("#keys").wait_for(state="hidden")
    page.keyboard.press("/")
    page.keyboard.type("j/?[")
    assert page.locator("#wanted").input_value() == "j/?["


def test_search_leads_to_the_event(page: Any) -> None:
    page.keyboard.press("/")
    page.keyboard.type("landmark")
    page.keyboard.press("Enter")
    page.locator("mark").first.wait_for()
    page.locator("a.step").first.click()
    page.locator(".event.here").wait_for()


def test_events_appear_as_they_are_written(browser: Any, tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger, served(ledger.path) as address:
        session = begin(ledger)
        page = browser.new_page()
        page.goto(f"{address}/session/{session}")
        page.locator('#live:text-is("live")').wait_for()
        ledger.event(session, "stage", "a stage <b>that</b> came")
        page.locator("text=a stage <b>that</b> came").wait_for()
        page.close()
        ledger.event(session, "stage", "nobody looks")
        page = browser.new_page()
        page.goto(f"{address}/session/{session}")
        page.locator("text=nobody looks").wait_for()
        ledger.end_session(session, "done")
        page.locator('#live:text-is("ended")').wait_for()
        page.locator("#now >> text=done").wait_for()
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(page: Any, address: str, ledger: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with Reader.open(ledger) as reader:
        call = reader.events(kind="llm_call")[0].seq
    page.emulate_media(color_scheme=scheme)
    page.set_default_timeout(20_000)
    found: dict[str, list[str]] = {}
    for path in ("/", f"/session/{RECORDED_ID}", f"/session/{RECORDED_ID}/R1", f"/event/{call}",
                 "/search?text=landmark", f"/compare?first={RECORDED_ID}"):  # fmt: skip
        page.goto(address + path)
        page.wait_for_load_state("load")
        results = axe.run(page).response["violations"]
        if results:
            found[path] = [f"{each['id']}: {each['nodes'][0]['html'][:120]}" for each in results]
    assert found == {}


def test_nothing_is_wider_than_a_small_screen(page: Any, address: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    for path in ("/", f"/session/{RECORDED_ID}", f"/session/{RECORDED_ID}/R1", "/search?text=landmark", "/compare"):
        page.goto(address + path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
