"""``--shadow``: a second backend is asked what an agent is asked; nothing that it says or does changes the session."""

from __future__ import annotations

import asyncio
import json

import pytest

from learning_signal.agents.model.providers.spec import SpecError
from learning_signal.agents.model.specs import parse_shadows
from learning_signal.agents.replay.script import read_script
from learning_signal.agents.session.session import run_session
from learning_signal.ledger.read.across.backends import backend_records
from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.reader import Reader
from learning_signal.run import run
from tests.support.scripted_server import error, serving, text
from tests.support.session_helpers import Recorder, story, tiny_settings
from tests.support.synthetic_training import InlinePool
from tests.support.weak_replies import PROPOSES, submits

EMPTY = submits("submit_proposal", {"candidates": []})
SAYS = (text("Hm."), EMPTY, text("Well."), PROPOSES)
"""What the Generator says: two texts, a call that is refused, and a proposal."""
TOKENS = 18
"""Of a reply of the scripted server."""


def played(folder, *beside, says=SAYS, **changes):
    """A session whose Generator is behind one server and its shadow, if it has one, behind another."""

    async def main():
        async with serving(*says) as server, serving(*(beside or [error(500)])) as other:
            settings = tiny_settings(folder, **changes)
            agents = settings.agents | {"generator": f"openai-api/agent@{server.address}?attempts=1"}
            shadows = {"generator": f"openai-api/second@{other.address}"} if beside else {}
            settings = settings.model_copy(update={"agents": agents, "shadows": shadows})
            outcome = await run_session(settings, observer=Recorder(), executor=InlinePool(settings.store))
            return outcome, server.requests, other.requests

    return asyncio.run(main())


def lines(ledger):
    with Reader.open(ledger) as reader:
        return [(each.agent, each.status, each.title) for each in reader.events(kind="shadow")]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shadow")
    return folder / "ledger.db", *played(folder, PROPOSES, EMPTY, text("Hm."), EMPTY)


def test_it_is_asked_the_same_turn_by_turn(two):
    _, _, asked, beside = two
    assert len(asked) == len(beside) == len(SAYS)
    for mine, theirs in zip(asked, beside, strict=True):
        assert mine.body["model"] == "agent" and theirs.body["model"] == "second"
        for name in ("messages", "tools", "tool_choice"):
            assert mine.body.get(name) == theirs.body.get(name)


def test_every_turn_has_one_line_that_says_whether_they_agree(two):
    assert lines(two[0]) == [
        ("generator", "ok", "differs: submit_proposal, where the generator made no call"),
        ("generator", "ok", "agrees: submit_proposal"),
        ("generator", "ok", "agrees: no call"),
        ("generator", "ok", "differs: submit_proposal with other arguments"),
    ]


def test_the_session_is_the_same_as_without_it(two, tmp_path):
    ledger, outcome, _, _ = two
    alone, _, _ = played(tmp_path)
    with_it, without = story(ledger), story(tmp_path / "ledger.db")

    with_it["counts"].pop("llm_calls"), without["counts"].pop("llm_calls")
    assert with_it == without
    assert (outcome.status, outcome.promoted) == (alone.status, alone.promoted)


def test_its_tokens_are_counted_apart_and_in_the_sum(two):
    with Reader.open(two[0]) as reader:
        costs = reader.costs()
    assert costs.agents["generator's shadow"].tokens_in == costs.agents["generator"].tokens_in == len(SAYS) * 11
    assert costs.tokens_in == sum(each.tokens_in or 0 for each in costs.agents.values())


def test_explain_and_the_record_of_backends_show_it(two, capsys):
    ledger = two[0]
    with Reader.open(ledger) as reader:
        chain, records = explain(reader), backend_records(reader)
    assert [each.title for each in chain.shadows] == [title for _, _, title in lines(ledger)]
    (second,) = (each for each in records if "second@" in each.backend)
    assert (second.shadow_replies, second.shadow_agreed, second.shadow_tokens) == (4, 2, 4 * TOKENS)
    assert (second.attempts, second.phases, second.tokens_in, second.promotions) == (0, 0, None, 0)

    assert run(["explain", "--ledger", str(ledger)]) == 0
    shown = capsys.readouterr().out
    assert "What shadows would have done" in shown and "generator agrees: no call" in shown
    assert run(["log", "show", "--kind", "shadow", "--ledger", str(ledger)]) == 0
    assert capsys.readouterr().out.count("submit_proposal") == 3
    assert run(["backends", "--record", "--ledger", str(ledger)]) == 0
    assert "2 of 4" in capsys.readouterr().out


def test_a_replay_reads_the_agent_alone(two):
    with Reader.open(two[0]) as reader:
        script = read_script(reader, reader.session_id("latest"))
    assert not [each for each in script.requests if "second@" in each.spec]


@pytest.mark.parametrize(
    ("fault", "requests"),
    [(error(500, "boom"), 4), (error(401, "no such key"), 3)],  # 500 may be about tool_choice: one turn asks again
    ids=["500", "401"],
)
def test_a_shadow_that_fails_is_left_out_after_three_turns_and_nothing_else_happens(tmp_path, fault, requests):
    outcome, asked, beside = played(tmp_path, fault)

    assert (outcome.status, outcome.stop_reason, len(asked)) == ("done", None, len(SAYS))
    assert [each["outcome"] for each in outcome.promoted] == ["promoted"] and not outcome.troubles
    assert len(beside) == requests
    assert [status for _, status, _ in lines(tmp_path / "ledger.db")] == ["error"] * requests


def test_its_tokens_are_inside_the_budget(tmp_path):
    """The shadow's answers use up what the budget has for the Generator's third turn."""
    long = {"prompt_tokens": 60_000, "completion_tokens": 7, "total_tokens": 60_007}
    outcome, asked, _ = played(tmp_path, text("Hm.", usage=long), budget={"tokens": 90_000})

    assert outcome.status == "paused" and "tokens" in outcome.stop_reason
    assert len(asked) < len(SAYS)


def test_what_cannot_be_a_shadow_is_refused():
    assert parse_shadows(["all=rules", "critic=ollama/qwen3:8b"])["critic"] == "ollama/qwen3:8b"
    for given, words in (
        (["critic=ollama/qwen3:8b|rules"], "The shadow of the critic is a chain of 2 backends"),
        (["critic=random"], "for the generator alone"),
        (["critic=human"], "is human, expected a model: nobody types silently"),
        (["judge=rules"], "is no agent"),
        (["critic"], "assigns no backend"),
    ):
        with pytest.raises(SpecError, match=words):
            parse_shadows(given)


def test_the_option_reaches_the_session(tmp_path, capsys):
    options = ["--shadow", "critic=rules", "--dry-run", "--json", "--ledger", str(tmp_path / "ledger.db")]
    assert run(["session", *options]) == 0
    agents = json.loads(capsys.readouterr().out)["agents"]
    assert [each for each in agents if each["role"] == "critic's shadow"][0]["backend"] == "rules"
