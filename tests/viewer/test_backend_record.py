"""``backends --record``: what every backend of a log did, apart from the others, over all sessions or one."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from learning_signal.agents.session.session import run_session
from learning_signal.ledger.read.across.backends import backend_records
from learning_signal.ledger.read.reader import Reader
from learning_signal.run import run
from learning_signal.tools.plan.budget import Price
from tests.support.recorded_ledger import recorded_ledger
from tests.support.scripted_server import serving, text
from tests.support.session_helpers import Recorder, tiny_settings
from tests.support.synthetic_training import InlinePool
from tests.support.weak_replies import PROPOSES, submits

HM = text("Hm.")
EMPTY = submits("submit_proposal", {"candidates": []})
PRICES = {"openai-api/weak": Price(input=1.0, output=2.0)}
TOKENS = 18
"""Of every reply of the scripted server: 11 in, 7 out."""


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Two sessions with one Generator behind a server: it proposes at its third request; then it only says "Hm."."""
    folder = tmp_path_factory.mktemp("sessions")

    async def session(*script):
        async with serving(*script) as server:
            settings = tiny_settings(folder, prices=PRICES)
            spec = f"openai-api/weak@{server.address}?attempts=1"
            settings = settings.model_copy(update={"agents": settings.agents | {"generator": spec}})
            outcome = await run_session(settings, observer=Recorder(), executor=InlinePool(settings.store))
            return spec, outcome.session_id

    proposing = asyncio.run(session(HM, EMPTY, PROPOSES))
    return folder / "ledger.db", proposing, asyncio.run(session(HM))


def record_of(ledger, spec, session=None):
    with Reader.open(ledger) as reader:
        return next(each for each in backend_records(reader, session) if each.backend == spec)


def test_text_refusals_forecasts_and_what_a_promotion_cost(played):
    ledger, (spec, _), _ = played
    found = record_of(ledger, spec)

    assert (found.roles, found.sessions, found.phases, found.given_up) == (("generator",), 1, 1, 0)
    assert (found.attempts, found.replies, found.text_replies) == (3, 3, 1)
    assert (found.tool_calls, found.refused_calls) == (2, 1)
    assert found.promotions == 1 and found.tokens_per_promotion == 3 * TOKENS
    assert found.usd_per_promotion == pytest.approx(3 * (11 * 1.0 + 7 * 2.0) / 1e6)
    assert found.scored_forecasts == 2 and found.brier == pytest.approx((1 - 0.7) ** 2)  # both gained, as it said
    assert found.median_latency_ms is not None and found.median_latency_ms > 0


def test_an_agent_that_gives_up_promotes_nothing_and_nothing_is_made_up(played):
    ledger, _, (spec, _) = played
    found = record_of(ledger, spec)

    assert (found.phases, found.given_up, found.promotions) == (1, 1, 0)
    assert found.text_replies == found.replies == found.attempts == 3
    assert (found.brier, found.tokens_per_promotion, found.usd_per_promotion) == (None, None, None)


def test_the_others_are_told_apart(played):
    ledger, (spec, _), (other, _) = played
    with Reader.open(ledger) as reader:
        records = {each.backend: each for each in backend_records(reader)}

    assert set(records) == {"rules", spec, other}
    rules = records["rules"]
    assert rules.roles == ("critic", "validator", "coordinator") and rules.sessions == 2
    assert (rules.text_replies, rules.refused_calls, rules.scored_forecasts) == (0, 0, 0)


def test_a_single_session_leaves_out_the_other(played):
    ledger, (spec, session), (other, _) = played
    with Reader.open(ledger) as reader:
        records = backend_records(reader, session)

    assert {each.backend for each in records} == {"rules", spec}
    assert record_of(ledger, "rules", session).sessions == 1


def test_the_tokens_are_those_of_the_log(tmp_path):
    with Reader.open(recorded_ledger(tmp_path / "ledger.db")) as reader:
        records, costs = backend_records(reader), reader.costs()
    assert sum(each.tokens_in or 0 for each in records) == costs.tokens_in
    assert sum(each.attempts for each in records) == costs.llm_calls


def test_the_command_prints_a_table_in_100_columns_and_json(played, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    ledger, (spec, session), _ = played
    assert run(["backends", "--record", "--ledger", str(ledger)]) == 0
    printed = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in printed.splitlines()) <= 100
    # A Critic in both sessions, a Validator and a Coordinator where there was a proposal.
    assert re.search(r"^rules +4 +0 ", printed, re.MULTILINE), printed

    assert run(["backends", "--record", "--session", session, "--ledger", str(ledger), "--json"]) == 0
    assert {each["backend"] for each in json.loads(capsys.readouterr().out)} == {"rules", spec}
