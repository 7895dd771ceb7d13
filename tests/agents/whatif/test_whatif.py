"""Another backend is asked what a session asked: the same request, the tools of then, what its proposal would do."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import asynccontextmanager

import pytest

from learning_signal import run as program
from learning_signal.agents.model.specs import parse_spec
from learning_signal.agents.replay.original import Original
from learning_signal.agents.session.running import SessionError
from learning_signal.agents.whatif import counterfactual as counterfactuals
from learning_signal.agents.whatif.ab import ask_agent_turns
from learning_signal.agents.whatif.counterfactual import counterfactual
from learning_signal.agents.whatif.question import place_of, question_of, session_and_event
from learning_signal.agents.whatif.stances import stance_of
from learning_signal.agents.whatif.turns import ask_turns
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.marl.gate.recompute import recompute
from learning_signal.tools.context import HumanAnswer
from learning_signal.tools.plan.settings import session_rules
from tests.support.rules_server import rules_serving
from tests.support.scripted_server import error, serving
from tests.support.session_helpers import Recorder, run_inline, tiny_settings
from tests.support.synthetic_training import InlinePool

OTHER = {
    "terms": [{"potential": "coverage_distance", "weight": -3.5, "scope": "team"}],
    "beta": 0.7,
    "rationale": "Strong and short.",
    "forecast": {"measure": "progress", "change": 0.1, "probability": 0.6},
    "answer": "It is meant to be strong.",
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A session of rules; nothing that is asked about it may change its log."""
    settings = tiny_settings(tmp_path_factory.mktemp("session"))
    assert run_inline(settings).status == "done"
    before = settings.ledger.read_bytes()
    yield settings
    assert settings.ledger.read_bytes() == before


@pytest.fixture
def session(recorded, tmp_path):
    """The settings, and the log of what is asked."""
    return recorded, tmp_path / "what-if.db"


def question(settings, role, turn=0):
    """A turn of a role: the original session, and the question."""
    original = Original(settings.ledger, "latest")
    with Reader.open(settings.ledger) as reader:
        places = [place for place, asked in enumerate(original.script.requests) if asked.role == role]
        return original, question_of(reader, original.script.requests, places[turn])


def ask(settings, role, to, spec="rules", **options):
    """What a backend would have done with the first turn of a role."""
    original, asked = question(settings, role)
    return asyncio.run(counterfactual(original, asked, parse_spec(spec), to, **options))


def ask_server(settings, role, to, serving_it, **options):
    """The same of a model behind a server; also the requests that it was sent."""

    async def main():
        original, asked = question(settings, role)
        async with serving_it as server:
            spec = parse_spec(f"openai-api/m@{server.address}?attempts=1")
            return await counterfactual(original, asked, spec, to, **options), server.requests

    return asyncio.run(main())


def proposing(*drafts):
    """A generator that proposes these, whatever it is told."""
    return rules_serving("generator", lambda wanted, messages: [("submit_proposal", {"candidates": list(drafts)})])


@pytest.mark.parametrize("role", ["critic", "generator", "validator", "coordinator"])
def test_the_same_backend_does_the_same(session, role):
    settings, to = session
    found = ask(settings, role, to)
    (answer,) = found.answers
    assert answer.agrees is True and answer.stance == found.was and answer.stopped is None
    with Reader.open(to) as reader:
        assert verify(reader, recompute, session_rules) == []
        events = reader.events(answer.session)
        assert "puts event " in events[0].title and reader.session(answer.session).status == "paused"
        assert {event.phase for event in events if event.kind == "llm_call"} >= {role}


def test_another_proposal_is_compared_shaping_by_shaping(session):
    settings, to = session
    found, requests = ask_server(settings, "generator", to, proposing(OTHER), times=2)
    assert [answer.agrees for answer in found.answers] == [False, False]
    assert found.answers[0].stance.formulas == ("beta 0.7: -3.5*coverage_distance (team)",)
    assert len(found.was.formulas) == 2 and not set(found.was.formulas) & set(found.answers[0].stance.formulas)
    cost = found.answers[0].cost
    assert (cost.calls, cost.usd) == (1, None) and cost.seconds > 0 and cost.tokens_in and cost.tokens_out
    sent = [message["content"] for message in requests[0].body["messages"]]
    assert [each.strip() for each in sent] == [message.content.strip() for message in found.question.messages]
    assert [each["function"]["name"] for each in requests[0].body["tools"]] == [
        tool["name"] for tool in found.question.tools
    ]


def test_tools_that_read_are_answered_from_the_state_of_then(session):
    settings, to = session
    looked = []

    def look_first(wanted, messages):
        if not looked:
            looked.append(len(messages))
            return [("summarize_trajectories", {})]
        return [("submit_proposal", {"candidates": [OTHER]})]

    found, requests = ask_server(settings, "generator", to, rules_serving("generator", look_first))
    (answer,) = found.answers
    assert answer.cost.calls == len(requests) == 2 and answer.stance.text == "submit_proposal: 1 candidate"
    told = json.loads(requests[1].body["messages"][-1]["content"].partition("\n")[0])
    with Reader.open(settings.ledger) as reader:
        (first, *_) = reader.rows(
            "SELECT result FROM tool_calls WHERE name = 'summarize_trajectories' AND status = 'ok' ORDER BY id"
        )
        then = json.loads(reader.body(first["result"]))
    assert {**told, "evidence": None} == {**then, "evidence": None}


def test_what_would_have_to_be_trained_is_not(session):
    settings, to = session

    def another(wanted, messages):
        brief = json.JSONDecoder().raw_decode(messages[1].content.partition("\n")[2])[0]
        chosen = brief["screens"][-1]["chosen"]
        other = "c2" if chosen == "c1" else "c1"
        return [("confirm", {"candidate": other, "reason": "I want to know."})]

    found, _ = ask_server(settings, "validator", to, rules_serving("validator", another))
    (answer,) = found.answers
    assert answer.stance is None and answer.agrees is None
    assert "env steps that nobody has trained; --train does that" in answer.stopped


def test_a_proposal_is_trained_from_the_same_parent_with_the_same_seeds(recorded, tmp_path, monkeypatch):
    copied = tmp_path / "segments"
    shutil.copytree(recorded.store, copied)
    original, asked = question(recorded, "generator")
    original = Original(recorded.ledger, "latest", copied, trains=True)
    monkeypatch.setattr(counterfactuals, "open_executor", lambda root, workers: InlinePool(root))

    async def main():
        async with proposing(OTHER) as server:
            spec = parse_spec(f"openai-api/m@{server.address}")
            return await counterfactual(original, asked, spec, tmp_path / "what-if.db", train=True)

    found = asyncio.run(main())
    (chain,) = found.rounds
    assert [candidate.shaping["beta"] for candidate in chain.candidates] == [0.7]
    assert found.round_was.decision.round == chain.decision.round == 1
    assert chain.decision.segment_from == found.round_was.decision.segment_from

    def seeds(one):
        return {
            (branch.purpose, branch.arm == "control", each.position): (each.segment.seed, each.segment.parent)
            for branch in one.branches
            for each in branch.segments
        }

    before, after = seeds(found.round_was), seeds(chain)
    shared = before.keys() & after.keys()
    assert {purpose for purpose, _, _ in shared} >= {"confirm"}
    assert {each: before[each] for each in shared} == {each: after[each] for each in shared}
    controls = [
        [s.segment.id for b in one.branches if (b.purpose, b.arm) == ("confirm", "control") for s in b.segments]
        for one in (found.round_was, chain)
    ]
    least = min(map(len, controls))
    assert controls[0][:least] == controls[1][:least] and least > 0, "the control is the very same"


def test_a_persons_answer_to_one_promotion_is_none_to_another(tmp_path, monkeypatch):
    settings = tiny_settings(tmp_path, approve="human")
    run_inline(settings, Recorder(answer=HumanAnswer(approved=False, reason="Not that one.")))
    monkeypatch.setattr(counterfactuals, "open_executor", lambda root, workers: InlinePool(root))
    found, _ = ask_server(settings, "generator", tmp_path / "what-if.db", proposing(OTHER), train=True)
    decisions = [chain.decision for chain in (found.round_was, *found.rounds)]
    assert [(each.action, each.decided_by) for each in decisions] == [("keep", "human"), ("promote", "human")]
    assert "Nobody was asked" in decisions[1].reason


def test_a_parent_whose_checkpoint_is_gone_is_said(recorded, tmp_path, monkeypatch):
    copied = tmp_path / "segments"
    shutil.copytree(recorded.store, copied)
    for checkpoint in copied.rglob("checkpoint.pt"):
        checkpoint.unlink()
    original, asked = question(recorded, "generator")
    original = Original(recorded.ledger, "latest", copied, trains=True)
    monkeypatch.setattr(counterfactuals, "open_executor", lambda root, workers: InlinePool(root))

    async def main():
        async with proposing(OTHER) as server:
            spec = parse_spec(f"openai-api/m@{server.address}")
            return await counterfactual(original, asked, spec, tmp_path / "what-if.db", train=True)

    (answer,) = asyncio.run(main()).answers
    assert "The checkpoint of the parent" in answer.stopped and "is gone" in answer.stopped


def test_a_store_that_is_gone_is_said_and_one_turn_needs_none(recorded, tmp_path):
    original, asked = question(recorded, "generator")
    gone = Original(recorded.ledger, "latest", tmp_path / "nowhere")
    with pytest.raises(SessionError, match="--store FOLDER"):
        asyncio.run(counterfactual(gone, asked, parse_spec("rules"), tmp_path / "what-if.db"))
    answers = asyncio.run(ask_turns(gone, [asked], parse_spec("rules"), tmp_path / "what-if.db", times=3))
    assert [answer.agrees for answer in answers] == [True] * 3
    assert all(answer.cost.calls == 1 for answer in answers)


@pytest.mark.parametrize("options", [["--turn"], []])
def test_answers_are_never_written_into_the_sessions_own_log(recorded, capsys, options):
    event = question(recorded, "critic")[1].asked.event
    given = ["--with", "rules", "--ledger", str(recorded.ledger), "--to", str(recorded.ledger)]
    assert program.run(["counterfactual", f"latest#{event}", *options, *given]) == 2
    assert program.run(["ab", "latest", "--agent", "critic", *given]) == 2
    assert capsys.readouterr().err.count("expected another") == 2


def test_every_turn_of_an_agent_is_put_to_every_backend(recorded, tmp_path):
    """One says what was said, one is down and asked only once."""

    @asynccontextmanager
    async def both():
        async with rules_serving("critic", lambda wanted, messages: wanted) as same, serving(error(401)) as down:
            yield same, down

    async def main():
        original = Original(recorded.ledger, "latest", tmp_path / "nowhere", plays=False)
        async with both() as (same, down):
            specs = [parse_spec(f"openai-api/m@{each.address}?attempts=1") for each in (same, down)]
            return await ask_agent_turns(original, "critic", specs, tmp_path / "what-if.db"), len(down.requests)

    turns, asked_of_down = asyncio.run(main())
    good, bad = turns.answers
    assert len(good) == len(bad) == len(turns.questions) >= 1
    assert all(answer.agrees for answer in good)
    assert asked_of_down == 1 and all(answer.agrees is None and "401" in answer.stopped for answer in bad)
    assert [cost.calls for cost in turns.costs] == [1] * len(turns.questions)


def test_an_event_leads_to_its_request(recorded):
    original = Original(recorded.ledger, "latest")
    requests = original.script.requests
    with Reader.open(recorded.ledger) as reader:
        (row,) = reader.rows("SELECT event_seq FROM tool_calls WHERE name = 'submit_proposal' AND status = 'ok'")
        session, number = session_and_event(reader, f"latest#{row['event_seq']}")
        assert (session, number) == (original.row.id, row["event_seq"])
        assert requests[place_of(requests, number, "generator")].role == "generator"
        with pytest.raises(LedgerError, match="expected an event"):
            session_and_event(reader, "latest")
    with pytest.raises(LedgerError, match="Nothing was asked before"):
        place_of(requests, 1, None)


def test_stances_leave_words_out_and_keep_what_is_said():
    def proposal(*weights, why="because"):
        drafts = [{**OTHER, "rationale": why, "terms": [{**OTHER["terms"][0], "weight": each}]} for each in weights]
        return stance_of([("submit_proposal", json.dumps({"candidates": drafts}))])

    assert proposal(-1, -2).agrees(proposal(-2.0, -1.0, why="of something else"))
    assert not proposal(-1, -2).agrees(proposal(-1, -3)) and not proposal(-1, -2).agrees(proposal(-1))
    promoted = stance_of([("promote", '{"candidate": "c1", "reason": "a"}')])
    assert promoted.agrees(stance_of([("promote", '{"candidate": "c1", "reason": "b"}')]))
    assert not promoted.agrees(stance_of([("promote", '{"candidate": "c2", "reason": "a"}')]))
    assert not promoted.agrees(stance_of([], "I promote c1."))
    for broken in (
        "",
        "[]",
        "{",
        '{"candidates": 3}',
        '{"candidates": [{"terms": [3]}, {"terms": [{"weight": "x"}]}]}',
    ):
        assert stance_of([("submit_proposal", broken)]).text.startswith("submit_proposal")


def test_the_commands_print_what_differs(recorded, tmp_path, capsys):
    with Reader.open(recorded.ledger) as reader:
        (row,) = reader.rows("SELECT event_seq FROM tool_calls WHERE name = 'submit_proposal' AND status = 'ok'")
    given = ["--ledger", str(recorded.ledger), "--to", str(tmp_path / "what-if.db")]
    assert program.run(["counterfactual", str(row["event_seq"]), "--with", "random?seed=3", "-n", "2", *given]) == 0
    shown = capsys.readouterr().out
    assert "0 of 2 answers agree with the session's" in shown and "proposed by" in shown
    assert max(map(len, shown.splitlines())) <= 100
    assert program.run(["ab", "latest", "--agent", "critic", "--with", "rules", *given]) == 0
    shown = capsys.readouterr().out
    assert "1 of 1" in shown and max(map(len, shown.splitlines())) <= 100
    assert program.run(["counterfactual", "latest", "--with", "rules", *given]) == 2
    assert "expected an event" in capsys.readouterr().err
