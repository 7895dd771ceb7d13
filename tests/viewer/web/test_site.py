"""The live page's addresses: what they show, what they refuse, and that none of them writes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from learning_signal.ledger import origin
from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from learning_signal.viewer.web import looks
from learning_signal.viewer.web.guard import Door
from learning_signal.viewer.web.site import LARGEST_FORM, site
from tests.support.kinds_of_sessions import resumed_beside_another
from tests.support.ledger_helpers import begin
from tests.support.recorded_ledger import RECORDED_ID, hostile_ledger, recorded_ledger

TOKEN = "t" * 32
HERE = "http://127.0.0.1:8642"
DRAWN = {"note": "Nothing is drawn: this is a test.", "start": None, "rounds": {}}
HOSTILE = (
    '<script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} " onclick="x" '
    "\x1b[31m \u202e \x00 javascript:alert(3)"
)


def client(ledger: Path, drawings: Any = lambda reader, session: DRAWN, token: bool = False) -> TestClient:
    made = TestClient(site(ledger, Door(TOKEN, False, "127.0.0.1", 8642), drawings), base_url=HERE)
    if token:
        made.headers["authorization"] = f"Bearer {TOKEN}"
    return made


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_ledger(tmp_path_factory.mktemp("site") / "ledger.db")


@pytest.fixture(scope="module")
def asked(ledger: Path) -> Iterator[TestClient]:
    with client(ledger) as made:
        yield made


def addresses(ledger: Path) -> list[str]:
    """An address of every page that only reads."""
    with Reader.open(ledger) as reader:
        call = reader.events(kind="llm_call")[0].seq
    session = f"/session/{RECORDED_ID}"
    return [
        "/", "/?page=9", session, f"{session}?page=2", f"{session}?agent=critic&kind=llm_call&round=1&status=ok",
        f"{session}?text=landmark", f"{session}/now", f"{session}/about", f"{session}/R1", f"{session}/R4",
        f"{session}/R1/drawn", f"{session}/report.html", f"/event/{call}", f"/event/{call}/behind",
        f"/event/{call}/there", "/search", "/search?text=landmark", f"/search?text=landmark&session={RECORDED_ID}",
        "/compare", f"/compare?first={RECORDED_ID}", "/static/live.js", "/static/page.css",
    ]  # fmt: skip


class Parts(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_reading_every_page_leaves_the_log_and_the_inbox_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(origin.STATE_VARIABLE, str(tmp_path / "state"))
    ledger = recorded_ledger(tmp_path / "ledger.db")
    before = hashlib.sha256(ledger.read_bytes()).digest()
    asked = client(ledger)
    assert {path: asked.get(path).status_code for path in addresses(ledger)} == dict.fromkeys(addresses(ledger), 200)
    assert hashlib.sha256(ledger.read_bytes()).digest() == before
    assert not (tmp_path / "state").exists()


def test_the_session_page_shows_what_the_log_says(ledger: Path, asked: TestClient) -> None:
    with Reader.open(ledger) as reader:
        events, decisions = reader.events(), reader.decisions()
    first = asked.get(f"/session/{RECORDED_ID}").text
    shown = [int(number) for number in re.findall(r'<details class="event"[^>]* id="e(\d+)"', first)]
    assert shown == [each.seq for each in events[: looks.EVENTS]]
    for each in decisions:
        assert f'href="/session/{RECORDED_ID}/R{each.round}"' in first and each.reason[:40] in Parts(first).text


def test_pages_go_on_to_the_end_and_filters_leave_what_fits(
    ledger: Path, asked: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "EVENTS", 25)
    seen: list[int] = []
    page: str | None = f"/session/{RECORDED_ID}?page=1"
    while page:
        text = asked.get(page).text
        seen += [int(number) for number in re.findall(r'id="e(\d+)"', text)]
        following = re.search(r'<a href="([^"]+)" rel="next">', text)
        page = following and following[1].replace("&amp;", "&")
    with Reader.open(ledger) as reader:
        events = reader.events()
    assert seen == [each.seq for each in events]
    fitting = [each.seq for each in events if each.agent == "critic" and each.kind == "tool_call"]
    found = asked.get(f"/session/{RECORDED_ID}?agent=critic&kind=tool_call", headers={"hx-target": "transcript"}).text
    assert [int(number) for number in re.findall(r'id="e(\d+)"', found)] == fitting[:25] and "<html" not in found


def test_an_event_is_found_on_its_page(ledger: Path, asked: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "EVENTS", 25)
    with Reader.open(ledger) as reader:
        events = [each.seq for each in reader.events()]
    for seq in (events[0], events[24], events[25], events[-1]):
        there = asked.get(f"/event/{seq}/there", follow_redirects=False).headers["location"]
        assert there.endswith(f"#e{seq}") and f'id="e{seq}"' in asked.get(there).text


def test_a_model_call_is_shown_as_it_was_sent_and_answered(ledger: Path, asked: TestClient) -> None:
    with Reader.open(ledger) as reader:
        seq = reader.events(kind="llm_call", agent="critic")[0].seq
        (call,) = reader.entry(seq).llm_calls
        prompt = reader.agents()[0].prompt
    page = Parts(asked.get(f"/event/{seq}").text).text
    assert "system prompt" in page and prompt.splitlines()[0] in page and call["spec"] in page
    assert "as it was sent and answered" in asked.get(f"/event/{seq}/behind").text


def test_the_decision_page_answers_a_newcomer(ledger: Path, asked: TestClient) -> None:
    """What was wrong, what was tried, what was promoted and on what evidence, what it cost, whether it was right, and
    what the model saw."""
    with Reader.open(ledger) as reader:
        chain = explain(reader, f"{RECORDED_ID}/R1")
    page = asked.get(f"/session/{RECORDED_ID}/R1").text
    text = " ".join(Parts(page).text.split())
    assert chain.diagnosis is not None and chain.verdict is not None
    for said in (
        chain.diagnosis.body["failures"][0]["description"],
        *(each.name for each in chain.candidates),
        chain.verdict.reason,
        chain.decision.reason,
        "env steps of training in",
        "probation",
    ):
        assert " ".join(said.split()) in text, said
    calls = re.findall(r'<a class="step" href="/event/(\d+)">', page)
    with Reader.open(ledger) as reader:
        assert [int(each) for each in calls] == [each.seq for each in reader.events(round=1, kind="llm_call")]


def test_drawings_are_made_once_for_all_decisions_of_a_session(ledger: Path) -> None:
    made: list[str] = []

    def drawings(reader: Reader, session: str) -> Any:
        made.append(session)
        return DRAWN

    asked = client(ledger, drawings)
    for round_ in (1, 2, 1):
        assert DRAWN["note"] in asked.get(f"/session/{RECORDED_ID}/R{round_}/drawn").text
    assert made == [RECORDED_ID]


@pytest.mark.parametrize(
    "path",
    ["/session/20000101-000000-abc", "/session/../../etc/passwd", "/session/%2e%2e%2fx", "/event/999999",
     f"/session/{RECORDED_ID}/R99", "/static/../site.py", "/static/site.py", "/nothing", "/event/99999999999999999999",
     "/compare?first=x&second=y", "/search?text=x&session=nope"],
)  # fmt: skip
def test_what_is_not_there_is_one_sentence(asked: TestClient, path: str) -> None:
    answer = asked.get(path)
    assert answer.status_code == 404 and "Traceback" not in answer.text


def test_hostile_text_is_inert_on_every_page(tmp_path: Path) -> None:
    ledger = hostile_ledger(tmp_path / "ledger.db", HOSTILE)
    asked = client(ledger)
    seen = 0
    for path in addresses(ledger):
        answer = asked.get(path)
        if path.startswith("/static") or answer.headers["content-type"].startswith("text/plain"):
            continue
        assert answer.status_code in (200, 404), path
        page = Parts(answer.text)
        seen += "alert(1)" in page.text
        for tag, attributes in page.elements:
            assert not [name for name in attributes if name.startswith("on") or name == "style"], (path, tag)
            own = path.endswith("report.html") or (attributes.get("src") or "/static/").startswith("/static/")
            assert tag != "script" or (own and "src" in attributes) or path.endswith("report.html"), path
            for name in ("href", "src", "action"):
                target = urlsplit(attributes.get(name) or "")
                assert target.scheme in ("", "data") and not target.netloc, (path, tag, attributes)
        assert "\x1b" not in answer.text and "\u202e" not in answer.text and "\x00" not in answer.text
        assert "49" not in page.text or "{{ 7*7 }}" in page.text
    assert seen >= 8


@pytest.mark.parametrize("what", ["approve", "reject", "say"])
def test_nothing_is_told_without_the_token(ledger: Path, what: str) -> None:
    answer = client(ledger).post(
        f"/session/{RECORDED_ID}/{what}", content=f"text=x&question={RECORDED_ID}/R1", headers={"origin": HERE}
    )
    assert answer.status_code == 403 and "only reads" in answer.text


def test_what_is_said_reaches_the_inbox_with_who_said_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(origin.STATE_VARIABLE, str(tmp_path / "state"))
    with Ledger.open(tmp_path / "ledger.db") as written:
        session = begin(written)
    asked = client(tmp_path / "ledger.db", token=True)
    told = asked.post(f"/session/{session}/say", content="text=Try+%C3%A4+smaller+beta.")
    assert told.status_code == 200 and session in told.text
    (inbox,) = (tmp_path / "state" / "inbox").iterdir()
    line = inbox.read_text()
    assert "Try \\u00e4 smaller beta." in line and "through the live page" in line
    assert asked.post(f"/session/{session}/approve", content="question=latest").status_code == 404
    for wrong in ("", "text=", f"text={'x' * 2001}", "text=%ff%fe"):
        answer = asked.post(f"/session/{session}/say", content=wrong)
        assert answer.status_code in (400, 404), (wrong[:20], answer.text)
    assert asked.post(f"/session/{session}/say", content="text=" + "x" * LARGEST_FORM).status_code == 413
    assert inbox.read_text() == line
    assert asked.get(f"/session/{session}/say").status_code == 405


def test_two_sessions_are_compared(tmp_path: Path) -> None:
    ledger = resumed_beside_another(tmp_path)
    with Reader.open(ledger) as reader:
        first, second = reader.session_ids()
    page = Parts(client(ledger).get(f"/compare?first={first}&second={second}").text).text
    assert "First divergence" in page and first in page and second in page


def test_a_page_that_cannot_be_made_says_so(ledger: Path) -> None:
    def broken(reader: Reader, session: str) -> Any:
        raise ValueError("<b>no</b>")

    guarded = site(ledger, Door(TOKEN, False, "127.0.0.1", 8642), broken)
    answer = TestClient(guarded, base_url=HERE, raise_server_exceptions=False).get(f"/session/{RECORDED_ID}/R1/drawn")
    assert answer.status_code == 500 and "cannot be made (ValueError)" in answer.text and "<b>" not in answer.text


def test_a_log_without_sessions_has_a_page(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "ledger.db").close()
    assert "no session yet" in client(tmp_path / "ledger.db").get("/").text
