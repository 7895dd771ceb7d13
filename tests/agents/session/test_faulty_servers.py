"""Faulty model servers: whatever one does, a session ends in success, or in a pause with one clear sentence.

`python -m bench.faults` plays the whole table; here is a cell of every twentieth line, and, slowly, one of each fault.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.faulty.cells import KEY, PHASES, Cell, Ending, cells, chosen, play, problems
from tests.support.faulty.protocols import PROTOCOLS, Called, Said
from tests.support.faulty.table import FAULTS


def of_each() -> list[list[Cell]]:
    """The chosen cells of each fault."""
    return [[cell for cell in chosen() if cell.fault is fault] for fault in FAULTS]


FEW = chosen()[::20]
ONE_OF_EACH = [each[n % len(each)] for n, each in enumerate(of_each())]
BATCHES = [ONE_OF_EACH[first::10] for first in range(10)]


def test_there_are_at_least_60_faults_of_each_protocol_in_four_phases():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 180
    for protocol in PROTOCOLS:
        assert sum(protocol.name in fault.protocols for fault in FAULTS) >= 180
    assert len(cells()) == len(PHASES) * len(chosen()) and len(set(map(str, PHASES))) == 4


@pytest.mark.parametrize("cell", FEW, ids=lambda cell: cell.name)
def test_a_session_comes_to_its_end(cell):
    assert problems(cell, play(cell)) == []


@pytest.mark.slow
@pytest.mark.parametrize("batch", BATCHES, ids=range(len(BATCHES)))
def test_every_fault_is_met_once(batch):
    found = {cell.name: problems(cell, play(cell)) for cell in batch}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def found(name: str, protocol: int = 0) -> Cell:
    """A cell of a fault."""
    return Cell(next(fault for fault in FAULTS if fault.name == name), PROTOCOLS[protocol], "coordinator")


def test_what_is_not_as_it_must_be_is_seen():
    """Negative control of the judgement."""
    pauses, recovers = found("401 a wrong key"), found("500 a fault")
    sentence = "Backend 'm' refused the key (HTTP 401); set X to a valid key."
    paused, done = Ending("paused", sentence, sound=True), Ending("done", sound=True)
    assert problems(pauses, paused) == problems(recovers, done) == []
    assert problems(pauses, done) and problems(recovers, paused)
    changes = (
        {"seconds": 182.0},
        {"complaints": ["tool calls without results"]},
        {"elsewhere": 1},
        {"left_behind": b"-" + KEY.encode()},
        {"shown": "\x1b[31m"},
        {"unhandled": ["KeyError"]},
        {"promoted_unproven": True},
        {"sound": False},
    )
    for change in changes:
        assert len(problems(pauses, replace(paused, **change))) == 1, change
    assert problems(recovers, replace(done, gave_up=True))
    for wrong in ("", "refused", sentence.replace(" refused", "\nrefused"), sentence.replace("key.", "key"), "x" * 900):
        assert problems(pauses, replace(paused, sentence=wrong))


def test_a_redirect_that_is_followed_is_seen(monkeypatch):
    """Negative control: what the SDK does by itself."""
    import openai

    monkeypatch.setattr(
        "learning_signal.agents.model.transport.guarded_client", lambda *_: openai.DefaultAsyncHttpxClient()
    )
    cell = found("307 to another host")
    assert "another server got" in " ".join(problems(cell, play(cell)))


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
def test_a_history_that_a_strict_server_refuses_is_seen(protocol):
    """Negative control of what servers insist on."""
    sound = {
        "openai": [
            {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "look", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "a", "content": "x"},
        ],
        "anthropic": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "look", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "x"}]},
        ],
        "ollama": [
            {"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": {}}}]},
            {"role": "tool", "tool_name": "look", "content": "x"},
        ],
    }[protocol.name]
    first = {"role": "user", "content": "Go on."}
    assert protocol.complaint({"messages": [first, *sound]}) is None
    for spoiled in (sound[:1], [*sound[:1], first], sound[1:], [sound[0], sound[0], sound[1]]):
        assert protocol.complaint({"messages": [first, *spoiled]}) is not None


def test_one_reply_is_the_same_in_every_protocol():
    said = Said("Well.", (Called("look", {"x": 1}, "call_0"),), "Hm.", tokens=(3, 4))
    openai, anthropic, ollama = (protocol.reply(said) for protocol in PROTOCOLS)
    assert openai["choices"][0]["message"]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"x": 1}'}
    assert [block["type"] for block in anthropic["content"]] == ["thinking", "text", "tool_use"]
    assert ollama["message"]["tool_calls"] == [{"function": {"name": "look", "arguments": {"x": 1}}}]
