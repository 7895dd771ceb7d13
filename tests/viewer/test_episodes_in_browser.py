"""Episodes on the page in a real browser: played, stepped, chosen, printed, and calm where that is asked for."""

from __future__ import annotations

import copy

import pytest

from learning_signal.ledger.read.reader import Reader
from learning_signal.tools.training.drawn import drawings
from learning_signal.viewer.page.report import session_page
from tests.support.promoted_policies import stored_policies
from tests.support.recorded_ledger import recorded_ledger
from tests.viewer.test_page_in_browser import browser, page

__all__ = ["browser", "page"]
SHOWN = "figure:nth-of-type(2) svg g"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    with Reader.open(recorded_ledger(folder / "ledger.db")) as reader:
        with stored_policies(reader, folder / "store"):
            made = drawings(reader)
        (folder / "report.html").write_text(session_page(reader, drawn=made), encoding="utf-8")
    return made, (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def address(drawn):
    return drawn[1]


@pytest.fixture
def player(page):
    page.locator(".player.ready").first.wait_for()
    return page.locator(".player").first


def circle(player, side: int = 1) -> tuple[float, float]:
    """Where agent 0 is drawn on a side, by its label."""
    label = player.locator("figure").nth(side).locator('svg g text:text-is("0")')
    return float(label.get_attribute("x")), float(label.get_attribute("y"))


def test_play_moves_both_sides_to_the_end_and_pause_stops(page, player):
    assert player.locator(".now").inner_text() == "step 25 of 25", "the still frame is the last one"
    at_the_end = [circle(player, side) for side in (0, 1)]
    player.locator(".speed").select_option("2")
    player.locator(".play").click()
    player.locator('.now:not(:text-is("step 25 of 25"))').wait_for()
    assert player.locator(".play").inner_text() == "pause"
    player.locator(".play").click()
    stopped = player.locator(".now").inner_text()
    assert all(circle(player, side) != end for side, end in enumerate(at_the_end))
    page.wait_for_timeout(100)
    assert player.locator(".now").inner_text() == stopped and player.locator(".play").inner_text() == "play"
    player.locator(".speed").select_option("60")
    player.locator(".play").click()
    player.locator('.now:text-is("step 25 of 25")').wait_for()
    player.locator('.play:text-is("play")').wait_for()
    assert [circle(player, side) for side in (0, 1)] == at_the_end


def test_what_is_drawn_at_a_step_is_where_the_agents_were(drawn, player):
    pairs = drawn[0]["rounds"][1]["episodes"]["pairs"]
    for place in (0, 2):
        player.locator(".which").select_option(str(place))
        for step in (0, 9):
            player.locator(".seek").fill(str(step))
            for side, name in enumerate(("before", "after")):
                x, y = pairs[place][name]["scene"]["places"][step]
                assert circle(player, side) == pytest.approx((300 * x / 2.8, 300 * y / 2.8), abs=0.06)
                said = player.locator("figure").nth(side).locator(".said").inner_text()
                assert said.startswith(pairs[place][name]["scene"]["captions"][step])
            phi = [pairs[place][name]["curves"]["Phi = -1.2*collisions (team)"][step] for name in ("before", "after")]
            assert player.locator(".value").nth(2).inner_text() == f"{phi[0]:g} before, {phi[1]:g} after"
            cursor = float(player.locator(".cursor").first.get_attribute("x1"))
            assert cursor == pytest.approx(720 * step / 25)


def test_it_is_played_and_stepped_by_keyboard(page, player):
    player.focus()
    page.keyboard.press("Home")
    assert player.locator(".now").inner_text() == "step 0 of 25"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert player.locator(".now").inner_text() == "step 1 of 25"
    page.keyboard.press("Space")
    player.locator('.now:not(:text-is("step 1 of 25"))').wait_for()
    page.keyboard.press("End")
    assert player.locator(".now").inner_text() == "step 25 of 25"
    player.locator(".seek").focus()
    page.keyboard.press("ArrowLeft")
    assert player.locator(".now").inner_text() == "step 24 of 25"


def test_phi_is_shown_behind_the_agents_or_not(player):
    image = player.locator("figure image").first
    first = image.get_attribute("href")
    assert first.startswith("data:image/png;base64,") and image.is_visible()
    player.locator(".seek").fill("0")
    assert image.get_attribute("href") != first
    player.locator(".shade").uncheck()
    assert not image.is_visible() and player.locator("figure svg").first.get_attribute("class") == "drawn"


def test_who_wants_little_motion_gets_a_slow_pace_and_print_a_still_frame(browser, address):
    page = browser.new_page(reduced_motion="reduce")
    page.goto(address)
    player = page.locator(".player").first
    page.locator(".player.ready").first.wait_for()
    assert player.locator(".speed").input_value() == "2"
    assert player.locator(".play").inner_text() == "play"
    page.emulate_media(media="print")
    assert not player.locator(".controls").is_visible() and player.locator("figure svg").first.is_visible()
    page.close()


def test_it_fits_a_narrow_page(page, player):
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_where_nothing_is_drawn_the_curves_are_still_played(browser, drawn, tmp_path):
    made = copy.deepcopy(drawn[0])
    for pair in made["rounds"][1]["episodes"]["pairs"]:
        for side in ("before", "after"):
            pair[side] |= {"scene": None, "fields": None}
    made["rounds"][1]["episodes"]["note"] = "The environment declares no drawing."
    with Reader.open(recorded_ledger(tmp_path / "ledger.db")) as reader:
        (tmp_path / "report.html").write_text(session_page(reader, drawn=made), encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    player = page.locator(".player.ready").first
    assert page.locator("article#R1 p:text-is('The environment declares no drawing.')").is_visible()
    player.locator(".seek").fill("3")
    assert player.locator(".said").first.inner_text().startswith("sparse return ")
    assert not player.locator("figure svg").first.is_visible() and not player.locator(".shade").is_visible()
    assert player.locator("svg.curve-of").count() == 3 and player.locator(".now").inner_text() == "step 3 of 25"
    page.close()
