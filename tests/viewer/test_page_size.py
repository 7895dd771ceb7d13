"""What a page weighs: repeated lines once, decisions of a long session packed, 5,000 events below a megabyte."""

from __future__ import annotations

import re

import pytest

from learning_signal.ledger.read.reader import Reader
from learning_signal.viewer.page import report
from learning_signal.viewer.page.packed import Packed
from learning_signal.viewer.page.report import session_page
from tests.support.many_events import many_events
from tests.support.recorded_ledger import recorded_ledger
from tests.viewer.test_page import Page, gunzipped, unpacked


def test_a_line_is_stored_once_and_every_part_comes_back_whole():
    packed, parts = Packed(), ["<p>one</p><p>two\nlines</p>", "", "<p>two\nlines</p>end", "<p>one</p>" * 3]
    stored = [packed.part(each) for each in parts]
    assert gunzipped(packed.lines()).split("\x1e") == ["<p>one</p>", "<p>two\n", "lines</p>", "end"]
    page = f'<script type="application/gzip" id="lines">{packed.lines()}</script>' + "".join(
        f'<script type="application/lines">{each}</script>' for each in stored
    )
    assert unpacked(page) == "".join(parts)


def test_decisions_of_a_long_session_are_packed_and_nothing_is_lost(tmp_path, monkeypatch):
    with Reader.open(recorded_ledger(tmp_path / "ledger.db")) as reader:
        plain = session_page(reader)
        monkeypatch.setattr(report, "PLAIN", 0)
        long = session_page(reader)
    articles = re.findall(r"<article.*?</article>", plain, re.DOTALL)
    bodies = [each[each.index('<div class="explained">') : each.rindex("</div>")] for each in articles]
    assert len(bodies) == 4 and '<div class="explained">' not in long
    assert all(body in unpacked(long) for body in bodies)
    assert len(long) < len(plain) - 0.8 * sum(map(len, bodies))
    assert Page(long + unpacked(long)).ids == Page(plain + unpacked(plain)).ids


@pytest.mark.slow
def test_five_thousand_events_weigh_less_than_a_megabyte(tmp_path):
    with Reader.open(many_events(tmp_path / "ledger.db", 5_000)) as reader:
        events, page = reader.events(), session_page(reader)
    assert len(events) >= 5_000
    assert {f"e{each.seq}" for each in events} <= Page(unpacked(page)).ids, "every event is in it"
    assert len(page.encode()) < 1_000_000
