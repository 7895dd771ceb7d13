"""The page of a strong model's recorded round: that it promoted the candidate which delivered least is seen on it."""

from __future__ import annotations

import re

import pytest

from learning_signal.ledger.read.reader import Reader
from learning_signal.viewer.page.report import session_page
from tests.support.strong_rware import CANDIDATES, play

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def article(tmp_path_factory):
    """Its only decision on the page."""
    with Reader.open(play(tmp_path_factory.mktemp("session"))) as reader:
        page = session_page(reader)
    return re.search(r'<article id="R1".*?</article>', page, re.DOTALL)[0]


def test_one_page_shows_that_c3_delivered_five_times_what_c2_did(article):
    assert "promote c2" in re.sub("<[^>]+>", "", article)
    told = re.search(r"mean sparse return: ([^<]+)", article)[1]
    deliveries = {name: float(value) for name, value in re.findall(r"(c\d|control) ([\d.]+)", told)}
    assert deliveries == {"control": 0.0781, "c1": 1.01, "c2": 0.242, "c3": 1.34}
    assert deliveries["c3"] > 5 * deliveries["c2"]


def test_and_draws_it(article):
    screen = next(plot for plot in re.findall(r'<svg[^>]*class="arms".*?</svg>', article) if ">c3<" in plot)
    left, right = 74, 374  # of the panel of the sparse return
    rows = {}
    for x, y in re.findall(r'<circle class="\w+" cx="([\d.]+)" cy="([\d.]+)"', screen):
        if left <= float(x) <= right:
            rows.setdefault(float(y), []).append(float(x) - left)
    control, _, c2, c3 = (sum(dots) / len(dots) for _, dots in sorted(rows.items()))
    assert c3 > 5 * c2 * 0.98 and c2 > control
    assert ">1.34</text>" in screen and ">0.242</text>" in screen


def test_what_the_model_said_of_it_and_all_formulas_stand_beside_it(article):
    assert "c3 is the candidate that should be confirmed." in article
    for terms, *_ in CANDIDATES:
        assert all(f"{each['weight']}*{each['potential'].partition(' ')[0]}" in article for each in terms[1:])
