"""Shapings and episodes on the page: pictures tell what the numbers say, and untrusted words in them are inert."""

from __future__ import annotations

import base64
import copy
import gzip
import io
import json
import re

import pytest
from PIL import Image

from learning_signal.ledger.read.reader import Reader
from learning_signal.tools.training.drawn import drawings
from learning_signal.viewer.page import report
from learning_signal.viewer.page.decisions import fitting
from learning_signal.viewer.page.heat import LEVELS, NOTHING, colours, levels, png, range_of
from learning_signal.viewer.page.report import session_page
from tests.support.promoted_policies import stored_policies
from tests.support.recorded_ledger import recorded_ledger

HOSTILE = '</script><script>alert(1)</script>"><img src=x onerror=alert(2)>\u202e'


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    with Reader.open(recorded_ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")) as opened:
        yield opened


@pytest.fixture(scope="module")
def drawn(reader, tmp_path_factory):
    with stored_policies(reader, tmp_path_factory.mktemp("store")):
        return drawings(reader)


def played(page: str) -> list[dict]:
    """What the players of a page play."""
    packed = re.findall(r'<script type="application/episodes">([^<]+)</script>', page)
    return [json.loads(gzip.decompress(base64.b64decode(each))) for each in packed]


def test_pixels_of_a_field_are_its_values():
    values = [0.0, None, 1.0, 0.5, 0.25, None, 0.99, 0.1, 0.75]
    bounds = range_of([values])
    image = Image.open(io.BytesIO(base64.b64decode(png(levels(values, bounds), 3).partition(",")[2])))
    assert image.size == (3, 3)
    for place, value in enumerate(values):
        red, green, blue, alpha = image.convert("RGBA").getpixel((place % 3, place // 3))
        assert (alpha == 0) == (value is None)
        if value is not None:
            level = colours().index((red, green, blue))
            assert level / LEVELS <= value <= (level + 1) / LEVELS
    assert levels([2.0, None], (2.0, 2.0)) == [LEVELS // 2, NOTHING]
    shades = [sum(each) for each in colours()]
    assert shades == sorted(shades, reverse=True) and len(set(shades)) == LEVELS, "they only get darker"


def test_every_shaping_of_a_round_is_a_picture_with_its_formula_and_scale(reader, drawn):
    page = session_page(reader, drawn=drawn)
    first = re.search(r'<article id="R1".*?</article>', page, re.DOTALL)[0]
    second = re.search(r'<article id="R2".*?</article>', page, re.DOTALL)[0]
    assert first.count('<svg class="drawn on-field"') == 3 and "in use before" not in first
    assert "<b>in use before</b> beta 1.2: -1.2*collisions (team)" in second
    field = drawn["rounds"][1]["fields"][next(iter(drawn["rounds"][1]["fields"]))]
    low, high = range_of(field["values"])
    assert re.search(rf"Phi of agent 0: <span[^>]*>{low:.3g} <svg class=\"scale\".*?</svg> {high:.3g}</span>", first)
    picture = re.search(r'<image class="plane"[^>]*href="([^"]+)"', first)[1]
    assert picture == png(levels(field["values"][0], (low, high)), 20)
    assert page.count('id="start-scene"') == 1, "what all are drawn over stands in the page once"


def test_players_have_the_positions_and_the_phi_that_were_made(reader, drawn):
    pairs = played(session_page(reader, drawn=drawn))[0]["pairs"]
    made = drawn["rounds"][1]["episodes"]["pairs"]
    assert [each["length"] for each in pairs] == [25, 25, 25]
    for pair, original in zip(pairs, made, strict=True):
        for name, side in zip(("before", "after"), pair["sides"], strict=True):
            scene = original[name]["scene"]
            assert side["scene"]["frames"] == scene["frames"]
            x, y = scene["places"][-1]
            ring = re.search(r'cx="([-\d.]+)" cy="([-\d.]+)"', side["scene"]["rings"][-1])
            assert (float(ring[1]), float(ring[2])) == pytest.approx((300 * x / 2.8, 300 * y / 2.8), abs=0.1)
            assert f'cx="{ring[1].removesuffix(".0")}"' in "".join(side["scene"]["shapes"])
        curves = {name: sides for name, *sides in pair["curves"]}
        assert curves["Phi = -1.2*collisions (team)"][1] == original["after"]["curves"]["Phi = -1.2*collisions (team)"]


def test_what_is_not_drawn_is_said(reader):
    page = session_page(reader, drawn={"note": f"Nothing is drawn: {HOSTILE}", "start": None, "rounds": {}})
    assert "Nothing is drawn: &lt;/script&gt;" in page and "<img" not in page
    rounds = {1: {"fields": {}, "episodes": None, "note": "Its episodes are not drawn: the store is gone."}}
    assert "the store is gone." in session_page(reader, drawn={"note": None, "start": None, "rounds": rounds})


def test_episodes_for_which_a_page_has_no_room_are_left_out_and_it_says_so(reader, drawn, monkeypatch):
    whole = session_page(reader, drawn=drawn)
    first, second = (len(each) for each in re.findall(r'application/episodes">([^<]+)<', whole))
    monkeypatch.setattr(report, "fitting", lambda parts, _: fitting(parts, first + second - 1))
    page = session_page(reader, drawn=drawn)
    assert len(played(whole)) == 2 and len(played(page)) == 1
    assert "Its episodes are left out" in re.search(r'<article id="R3".*?</article>', page, re.DOTALL)[0]


def test_words_of_a_drawing_are_inert(reader, drawn):
    hostile = copy.deepcopy(drawn)
    hostile["start"]["shapes"][-1][5] = HOSTILE
    pair = hostile["rounds"][1]["episodes"]["pairs"][0]
    for side in ("before", "after"):
        pair[side]["scene"]["captions"] = [HOSTILE] * 26
        pair[side]["scene"]["shapes"][-1][4:] = [HOSTILE, HOSTILE]
        pair[side]["curves"] = {HOSTILE: [0.0] * 26}
    page = session_page(reader, drawn=hostile)
    assert page.count("<script>") == 3 and "<img" not in page and "\u202e" not in page
    side = played(page)[0]["pairs"][0]["sides"][0]
    assert all("<script" not in each and "<img" not in each for each in side["scene"]["shapes"])
