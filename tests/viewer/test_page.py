"""The report of a session as one file: what stands in it, that nothing in it acts, and what it weighs."""

from __future__ import annotations

import base64
import csv
import gzip
import json
import re
from html.parser import HTMLParser
from itertools import accumulate

import pytest
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from learning_signal.ledger.read.reader import Reader
from learning_signal.run import application
from learning_signal.viewer.page.markup import markup
from learning_signal.viewer.page.report import session_page
from tests.support.recorded_ledger import RECORDED_ID, hostile_ledger, recorded_ledger

HOSTILE = (
    '<script>alert(1)</script><img src=x onerror=alert(2)>" onload="alert(3) \x1b[31m\u202e\x00 javascript:alert(4)'
)


class Page(HTMLParser):
    """The elements of a page, its ids and where its links lead."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    @property
    def ids(self) -> set[str]:
        return {each["id"] for _, each in self.elements if "id" in each}


def gunzipped(packed: str) -> str:
    return gzip.decompress(base64.b64decode(packed)).decode()


def unpacked(page: str) -> str:
    """What is packed in a page: its transcript, and the decisions of a long session."""
    lines = gunzipped(re.search(r'<script type="application/gzip" id="lines">([^<]+)</script>', page)[1]).split("\x1e")
    html = ""
    for part in re.findall(r'<script type="application/lines">([^<]+)</script>', page):
        html += "".join(lines[place] for place in accumulate(map(int, gunzipped(part).split())))
    return html


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    return recorded_ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")


@pytest.fixture(scope="module")
def page(ledger):
    with Reader.open(ledger) as reader:
        return session_page(reader)


def test_every_decision_and_every_event_has_its_place_and_every_link_leads_somewhere(ledger, page):
    with Reader.open(ledger) as reader:
        events, decisions = reader.events(), reader.decisions()
    whole = Page(page + unpacked(page))
    assert {f"e{each.seq}" for each in events} | {f"R{each.round}" for each in decisions} <= whole.ids
    links = {each["href"] for tag, each in whole.elements if tag == "a"}
    assert {f"#R{each.round}" for each in decisions} <= links
    assert all(link.startswith("#") and link[1:] in whole.ids for link in links), links


def test_the_curve_leads_to_a_decision_and_the_decision_to_the_words_that_caused_it(page):
    curve = re.search(r"<svg.*?</svg>", page, re.DOTALL)[0]
    assert '<a href="#R1">' in curve
    article = re.search(r'<article id="R1".*?</article>', page, re.DOTALL)[0]
    assert "No agent comes near a landmark." in article and "worth a try" in article
    diagnosis = re.search(r'<a href="#(e\d+)">diagnosis</a>', article)[1]
    assert f'id="{diagnosis}"' in unpacked(page)


def test_both_measures_of_every_branch_are_drawn(page):
    article = re.search(r'<article id="R1".*?</article>', page, re.DOTALL)[0]
    plots = re.findall(r'<svg[^>]* class="arms".*?</svg>', article)
    assert plots and any("progress" in plot and "sparse return" in plot for plot in plots)
    confirmation = plots[-1]
    assert (
        confirmation.count('class="control"') == confirmation.count('class="candidate"') == 8
    )  # 4 branches, 2 measures


def test_the_page_asks_nobody_and_allows_only_its_own_script_and_styles(page):
    policy = re.search(r'content="(default-src[^"]+)"', page)[1]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy
    for tag, attributes in Page(page + unpacked(page)).elements:
        assert not any(name.startswith("on") or name in ("src", "style", "srcset") for name in attributes), (
            tag,
            attributes,
        )
        assert tag not in ("link", "iframe", "img", "object", "embed", "form", "base")


def test_hostile_text_is_inert(ledger, tmp_path):
    path = hostile_ledger(tmp_path / "hostile.db", HOSTILE)
    with Reader.open(path) as reader:
        hostile = session_page(reader)
    whole = hostile + unpacked(hostile)
    assert whole.count("<script") == hostile.count('<script type="application/') + 3
    assert "&lt;script&gt;alert(1)" in whole and "\x1b" not in whole and "\u202e" not in whole and "\x00" not in whole
    for tag, attributes in Page(whole).elements:
        assert tag != "img" and not any(name.startswith("on") for name in attributes)
    run("--ledger", str(path), "--as", "csv", "--to", str(tmp_path / "tables"))
    table = (tmp_path / "tables" / "events.csv").read_text("utf-8")
    assert "alert(1)" in table and not {"\x1b", "\u202e", "\x00"} & set(table)


def test_the_check_for_hostile_text_has_teeth():
    found = Page(f"<p>{HOSTILE}</p>").elements
    assert ("img", {"src": "x", "onerror": "alert(2)"}) in found


def test_styles_become_classes_and_tables_stay_tables():
    table = Table("name", show_header=True)
    table.add_column("value", justify="right")
    table.add_row(Text.assemble(("c1", "bold"), " is ", ("good & <new>", "bold green")), "1.5")
    shown = markup(table)
    assert '<span class="bold">c1</span> is <span class="bold green">good &amp; &lt;new&gt;</span>' in shown
    assert '<td class="right">1.5</td>' in shown
    assert markup(Text.assemble(("kept ", "dim"), ("plain", "not dim"))) == '<p><span class="dim">kept </span>plain</p>'
    assert markup(Text("see #24 and R#7")) == '<p>see <a href="#e24">#24</a> and R#7</p>'
    with pytest.raises(TypeError):
        markup(object())


def test_the_page_of_a_session_is_small(page):
    assert len(page.encode()) < 400_000


# the command ---------------------------------------------------------------------------------------------------


def run(*command: str):
    result = CliRunner().invoke(application(), ["log", "export", *command])
    assert result.exit_code == 0, result.output
    return result.output.strip()


def test_a_report_is_written_beside_the_log_or_where_it_is_wanted(ledger, tmp_path):
    assert run("--ledger", str(ledger)) == str(ledger.parent / RECORDED_ID / "report.html")
    assert (ledger.parent / RECORDED_ID / "report.html").read_text().startswith("<!doctype html>")
    there = tmp_path / "new" / "page.html"
    assert json.loads(run("--ledger", str(ledger), "--to", str(there), "--json"))["path"] == str(there)
    assert there.is_file()


def test_data_and_tables_hold_every_event(ledger, tmp_path):
    with Reader.open(ledger) as reader:
        seqs = [each.seq for each in reader.events()]
        reasons = [each.reason for each in reader.decisions()]
    run("--ledger", str(ledger), "--as", "data", "--to", str(tmp_path / "session.json"))
    stored = json.loads((tmp_path / "session.json").read_text())
    assert [each["event"]["seq"] for each in stored["events"]] == seqs
    assert any(call["reply"] for each in stored["events"] for call in each["llm_calls"])
    run("--ledger", str(ledger), "--as", "csv", "--to", str(tmp_path / "tables"))
    with (tmp_path / "tables" / "events.csv").open(newline="") as stream:
        assert [int(row["event"]) for row in csv.DictReader(stream)] == seqs
    with (tmp_path / "tables" / "decisions.csv").open(newline="") as stream:
        assert [row["reason"] for row in csv.DictReader(stream)] == reasons
