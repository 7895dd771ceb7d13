"""A person in the place of an agent: context and tools of a model, typed at a terminal, recorded like a model's."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import re
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from learning_signal import run as program
from learning_signal.agents.model.providers.spec import SpecError
from learning_signal.agents.replay.original import Original
from learning_signal.agents.replay.session import replay_session
from learning_signal.agents.session.observer import SessionControl
from learning_signal.commands.checking import refuse_absent
from learning_signal.ledger.read.reader import Reader
from learning_signal.viewer.live.fields import TakenBack, field_lines, typed_arguments
from learning_signal.viewer.live.readable import readable
from learning_signal.viewer.live.view import PlainView
from tests.support.session_helpers import Recorder, resume_inline, run_inline, tiny_settings


class Terminal:
    """A terminal of 80 columns without colours, whose person answers each prompt with the next line."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.typist, terminal = pty.openpty()
        self.stdin = open(terminal, closefd=True)
        monkeypatch.setattr("sys.stdin", self.stdin)
        monkeypatch.setenv("NO_COLOR", "1")
        self.console = Console(file=io.StringIO(), width=80, force_terminal=True)
        self.view = PlainView(self.console, "spread, mappo", None)
        self.over = threading.Event()

    @property
    def text(self) -> str:
        return self.console.file.getvalue()

    def types(self, *lines: str | Callable[[], None]) -> threading.Thread:
        """Type each line once one more prompt is there."""

        def work() -> None:
            for count, line in enumerate(lines, 1):
                while self.text.count("critic> ") < count:
                    if self.over.wait(0.02):
                        return
                time.sleep(0.02)
                if callable(line):
                    line()
                else:
                    os.write(self.typist, line.encode() + b"\n")

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread


@pytest.fixture
def terminal(monkeypatch) -> Iterator[Terminal]:
    made = Terminal(monkeypatch)
    yield made
    made.over.set()
    made.stdin.close()
    os.close(made.typist)


class AtTheTerminal(Recorder):
    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._view = terminal.view

    def take_turn(self, turn):
        return self._view.take_turn(turn)


DIAGNOSIS = {
    "stage": "exploring",
    "failures": [{"description": "Nobody scores yet.", "evidence": ["E1"]}],
    "advice": "Reward coming closer.",
}


def until_done(work, terminal: Terminal):
    """The result of ``work``; what stood at the terminal where it does not end."""
    results = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    thread.join(30)
    assert results, terminal.text[-3000:]
    return results[0]


def played(folder, **changes):
    settings = tiny_settings(folder, **changes)
    return settings.model_copy(update={"agents": settings.agents | {"critic": "human"}})


def test_a_person_plays_the_critic(tmp_path, terminal):
    settings = played(tmp_path)
    wrong = json.dumps(DIAGNOSIS | {"stage": "asleep"})
    terminal.types(
        "nonsense", "help", "tool query_metrics", "context", "query_metrics names=sparse_return,progress",
        f"submit_diagnosis {wrong}", f"submit_diagnosis {json.dumps(DIAGNOSIS)}",
    )  # fmt: skip
    outcome = until_done(lambda: run_inline(settings, AtTheTerminal(terminal)), terminal)
    assert outcome.status == "done", (outcome.stop_reason, terminal.text[-3000:])
    text = terminal.text
    assert "You are the critic." in text and "Diagnose this run." in text and "submit_diagnosis:" in text
    assert "found 'nonsense', expected a tool" in text and "fill in its fields one by one" in text
    assert "refused:" in text and "ERROR: the arguments of submit_diagnosis are wrong: stage" in " ".join(text.split())
    assert re.search(r"\[\d+ steps are left\]", text), "as a model is told"
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text), "NO_COLOR"
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("critic> ", "critic> \n").splitlines()
    assert max(map(len, lines)) <= 80
    with Reader.open(settings.ledger) as reader:
        calls = reader.rows("SELECT * FROM llm_calls WHERE spec = 'human' ORDER BY id")
        tools = reader.rows("SELECT name, status FROM tool_calls WHERE agent = 'critic' AND event_seq > ? ORDER BY id",
                            (calls[0]["event_seq"],))  # fmt: skip
        (diagnosis,) = reader.rows("SELECT bodies.body FROM diagnoses JOIN bodies ON hash = diagnoses.body")
    assert {(each["status"], each["tokens_in"], each["tokens_out"], each["cost_usd"]) for each in calls} == {
        ("ok", None, None, None)
    }
    assert len(calls) == 3 and all(each["latency_ms"] > 0 and each["model_requested"] == "human" for each in calls)
    assert [(each["name"], each["status"]) for each in tools] == [
        ("query_metrics", "ok"), ("submit_diagnosis", "refused"), ("submit_diagnosis", "ok"),
    ]  # fmt: skip
    assert json.loads(diagnosis["body"])["advice"] == DIAGNOSIS["advice"]


def test_leaving_pauses_and_the_turn_is_taken_at_the_resume(tmp_path, terminal):
    settings = played(tmp_path)
    terminal.types("leave")
    outcome = until_done(lambda: run_inline(settings, AtTheTerminal(terminal)), terminal)
    assert (outcome.status, outcome.stop_reason) == (
        "paused", "The turn of the critic is still to be taken, because the person left it.",
    )  # fmt: skip
    with Reader.open(settings.ledger) as reader:
        (call,) = reader.rows("SELECT status FROM llm_calls")
    assert call["status"] == "interrupted"
    terminal.types("x", "say Hm.", f"submit_diagnosis {json.dumps(DIAGNOSIS | {'failures': []})}", "leave")
    again = until_done(lambda: resume_inline(settings, observer=AtTheTerminal(terminal)), terminal)
    assert again.status == "paused" and "is still to be taken" in again.stop_reason


def test_a_pause_takes_the_turn_back(tmp_path, terminal):
    settings, control = played(tmp_path), SessionControl()
    terminal.types(control.request_pause)
    outcome = run_inline(settings, AtTheTerminal(terminal), control)
    assert outcome.stop_reason == "The turn of the critic is still to be taken, because a pause was asked for."


def test_without_a_terminal_the_session_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("submit_diagnosis {}\n"))
    monkeypatch.chdir(tmp_path)
    assert program.run(["session", "--agent", "critic=human", "--no-check"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("error: The critic is to be played by a person, but standard input is no terminal: start")
    assert not (tmp_path / "runs").exists()
    outcome = run_inline(played(tmp_path), Recorder())
    assert outcome.status == "paused" and outcome.stop_reason.startswith("Nobody can play the critic: this is a test;")


def test_without_a_terminal_the_next_of_the_chain_takes_over_and_the_log_says_why(tmp_path, monkeypatch):
    """And a replay does the same."""
    monkeypatch.setattr("sys.stdin", io.StringIO("submit_diagnosis {}\n"))
    with pytest.raises(SpecError, match="The generator is to be played by a person"):
        refuse_absent({"critic": "rules", "generator": "ollama/x|human"})
    refuse_absent({"critic": "human|rules"})
    settings = played(tmp_path)
    settings = settings.model_copy(update={"agents": settings.agents | {"critic": "human|rules"}})
    console = Console(file=io.StringIO(), width=80)
    view = PlainView(console, "spread, mappo", None)
    watcher = Recorder()
    watcher.take_turn = view.take_turn
    outcome = run_inline(settings, watcher)
    assert outcome.status == "done", outcome.stop_reason
    with Reader.open(settings.ledger) as reader:
        fallbacks = [event.title for event in reader.events(kind="fallback")]
        calls = reader.rows("SELECT spec, status, error FROM llm_calls WHERE agent = 'critic' ORDER BY id")
        spoken = [(agent.spec, agent.source) for agent in reader.agents() if agent.role == "critic"]
    (title,) = fallbacks
    assert title.startswith("The critic (human) has no backend: Nobody can play the critic: found no terminal")
    assert title.endswith("rules takes over its phases of this round.")
    assert [(call["spec"], call["status"]) for call in calls[:2]] == [("human", "error"), ("rules", "ok")]
    assert spoken[:2] == [("human|rules", "default"), ("rules", "fallback")]
    played_again = asyncio.run(replay_session(Original(settings.ledger, "latest"), tmp_path / "replay.db"))
    assert (played_again.divergence, played_again.decisions) == (None, 1)


SCHEMA = {
    "properties": {
        "stage": {"enum": ["exploring", "plateau"], "type": "string"},
        "names": {"type": "array", "items": {"type": "string"}, "description": "What to look at."},
        "beta": {"type": "number"},
        "terms": {
            "type": "array",
            "items": {"properties": {"potential": {"type": "string"}, "weight": {"type": "number"}}},
        },
    },
    "required": ["stage", "terms"],
}


def answering(*lines: str | None):
    left, asked = list(lines), []

    def ask(prompt: str) -> str | None:
        asked.append(prompt)
        return left.pop(0)

    return ask, asked


@pytest.mark.parametrize(
    ("typed", "lines", "expected"),
    [
        ("stage=plateau names=a,b beta=1.5", (), {"stage": "plateau", "names": ["a", "b"], "beta": 1.5}),
        ('stage="not there" beta=much', (), {"stage": "not there", "beta": "much"}),
        ('{"stage":', ('"plateau"}',), {"stage": "plateau"}),
        ("", ("plateau", "", "2", "distance", "-1", "y", "near", "", "n"),
         {"stage": "plateau", "beta": 2, "terms": [{"potential": "distance", "weight": -1}, {"potential": "near"}]}),
    ],
)  # fmt: skip
def test_arguments_are_json_or_names_or_fields(typed, lines, expected):
    ask, asked = answering(*lines)
    assert json.loads(typed_arguments(SCHEMA, typed, ask)) == expected
    if not typed:
        assert asked[0] == "  stage (exploring or plateau): "
        assert asked[1] == "  names (list of text, empty to leave out): "
        assert asked[5] == "  another of terms? [y/n] "


def test_what_is_no_json_is_left_to_the_tool_to_refuse():
    assert typed_arguments(SCHEMA, "{stage", answering("")[0]) == "{stage"
    with pytest.raises(ValueError, match="found 'plateau', expected name=value"):
        typed_arguments(SCHEMA, "plateau", answering()[0])
    with pytest.raises(TakenBack):
        typed_arguments(SCHEMA, "", answering(None)[0])
    assert "    weight (number, may be left out)" in field_lines(SCHEMA)


def test_a_brief_is_laid_out_for_reading():
    brief = 'Diagnose this run.\n{"round":1,"head":{"env_steps":200,"sparse_return":null},"history":[{"a":[{"b":2}]}]}'
    assert readable(brief).splitlines() == [
        "Diagnose this run.", "round: 1", "head: env_steps 200, sparse_return null", "history:", "  -", "    a:",
        "      - b 2",
    ]  # fmt: skip
    assert readable('{"a":1}\n[2 steps are left]') == "a: 1\n[2 steps are left]"
    assert readable("no JSON {") == "no JSON {" and readable("[2 steps] are left") == "[2 steps] are left"
