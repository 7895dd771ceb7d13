"""A promotion is put to a person at the terminal; what was typed before is dropped, another shell may be first."""

from __future__ import annotations

import io
import os
import pty
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from learning_signal.viewer.live.view import PlainView

HOSTILE = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J [bold]m[/bold]"
ID = "20261122-154501-k3f/R2"


def plain(ledger: Path | None = None) -> PlainView:
    return PlainView(Console(file=io.StringIO(), width=100), "spread, mappo", ledger, every=3600.0)


def question() -> SimpleNamespace:
    term = {"potential": "distance", "weight": -1.0, "scope": "team"}
    shaping = SimpleNamespace(canonical=lambda: {"beta": 1.0, "terms": [term]})
    remarks = [SimpleNamespace(text="term 1 pays for higher distance")]
    return SimpleNamespace(
        round=2,
        reason="it passed",
        candidate=SimpleNamespace(name="c1", shaping=shaping, rationale=HOSTILE, remarks=remarks, answer=HOSTILE),
        verdict=SimpleNamespace(outcome="pass", reason="pass on progress", reading="small"),
        unsupported=("reading says p 0.5, which nothing in this round has",),
        id=ID,
        withdrawn=threading.Event(),
    )


@pytest.fixture
def typing(monkeypatch) -> Iterator[int]:
    """A terminal at standard input; what is written to the number is typed there."""
    typist, terminal = pty.openpty()
    with open(terminal, closefd=True) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        yield typist
    os.close(typist)


def asked(view: PlainView, typist: int, typed: list[bytes], withdrawn: threading.Event | None = None):
    """The answer of a person who types each text once the next prompt is there."""
    results: list[object] = []
    about = question()
    about.withdrawn = withdrawn or about.withdrawn
    thread = threading.Thread(target=lambda: results.append(view.ask_human(about)))
    thread.start()
    for count, text in enumerate(typed, 1):
        deadline = time.monotonic() + 5
        while sum(view.console.file.getvalue().count(each) for each in ("[a/r] ", "empty): ")) < count:
            assert time.monotonic() < deadline, view.console.file.getvalue()
            time.sleep(0.01)
        os.write(typist, text)
    thread.join(5)
    assert not thread.is_alive()
    return results[0]


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ([b"a\n", b"looks right\n"], (True, "looks right")),
        ([b"maybe\n", b"reject\n", b"\n"], (False, "no reason given")),
        ([b"\x04"], None),
    ],
)
def test_a_person_approves_or_rejects_with_a_reason(typing, typed, answer):
    view = plain()
    assert asked(view, typing, typed) == answer
    text = view.console.file.getvalue()
    assert "asks to promote c1" in text and "pass on progress" in text and "\x1b" not in text
    assert "remark of code: term 1 pays for higher distance" in text and "answer of the Generator: " in text
    assert ("expected a (approve) or r (reject)" in text) == (typed[0] == b"maybe\n")
    assert ("awaited from another shell" in text) == (answer is None), "Ctrl-D decides nothing"


def test_what_was_typed_before_the_question_is_dropped(typing):
    os.write(typing, b"a\nof course\n")
    time.sleep(0.05)
    assert asked(plain(), typing, [b"r\n", b"seen now\n"]) == (False, "seen now")


def test_a_question_that_was_answered_elsewhere_is_taken_back(typing):
    withdrawn = threading.Event()
    threading.Timer(0.2, withdrawn.set).start()
    assert asked(plain(), typing, [], withdrawn) is None


def test_without_a_terminal_the_question_is_shown_and_left_to_another_shell(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nyes\n"))
    view = plain(Path("elsewhere.db"))
    assert view.ask_human(question()) is None, "nobody has read it who could have typed that"
    text = view.console.file.getvalue()
    assert f"approve {ID} --ledger elsewhere.db" in text and f"reject {ID} --reason" in text
