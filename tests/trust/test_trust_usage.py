"""Token counts of a server are believed within reason, and one that was not cannot make a log unreadable."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from learning_signal import run
from learning_signal.agents.model.call import CallContext, Limits
from learning_signal.agents.model.dialect.usage import MOST_TOKENS, believable
from learning_signal.agents.model.errors import BackendError
from learning_signal.agents.model.specs import parse_spec
from learning_signal.agents.model.stack.client import agent_client
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from tests.support import scripted_server as wire
from tests.support.recorded_ledger import RECORDED_ID, recorded_ledger
from tests.support.scripted_server import serving

BEYOND = (2**63 - 1, 2**63, 10**30, MOST_TOKENS + 1, -1, -(10**9), -(2**63))


def recorded(folder, reply) -> dict:
    """The row of one call that the server answers with ``reply``."""
    from autogen_core.models import UserMessage

    async def main(ledger):
        async with serving(reply) as server:
            client = agent_client(
                parse_spec(f"openai-api/m@{server.address}?attempts=1"),
                "critic",
                ledger=ledger,
                session_id=RECORDED_ID,
                context=CallContext(1, "critic", "0"),
                limits=Limits(timeout=5.0, deadline=5.0),
                environment={},
            )
            try:
                await client.create([UserMessage(content="Go on.", source="session")])
            except BackendError:
                pass
            finally:
                await client.close()

    with Ledger.open(folder / "l.db") as ledger:
        ledger.begin_session(id=RECORDED_ID, task="t", algorithm="mappo", seed=0, config={}, code_version="0")
        asyncio.run(main(ledger))
        (row,) = ledger.rows("SELECT * FROM llm_calls")
    with Reader.open(folder / "l.db") as reader:
        assert len(reader.sessions()) == 1 and reader.costs().llm_calls == 1
    return row


@pytest.mark.parametrize("count", BEYOND)
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_an_impossible_count_is_replaced_by_an_estimate(tmp_path, name, count):
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, name: count}
    row = recorded(tmp_path, wire.text("All is well, as far as I can tell.", usage=usage))
    assert (row["status"], row["tokens_source"]) == ("ok", "estimate")
    assert 0 < row["tokens_in"] < 1000 and 0 < row["tokens_out"] < 1000


def test_a_large_count_that_can_be_is_believed(tmp_path):
    """Negative control."""
    usage = {"prompt_tokens": MOST_TOKENS, "completion_tokens": 7, "total_tokens": 18}
    row = recorded(tmp_path, wire.text("All is well.", usage=usage))
    assert (row["tokens_in"], row["tokens_out"], row["tokens_source"]) == (MOST_TOKENS, 7, "server")
    assert believable(0) and not believable(True) and not believable(1.0) and not believable(None)


@pytest.mark.parametrize("count", [2**63, -(10**9)])
def test_a_reply_of_no_use_with_impossible_counts_costs_nothing_known(tmp_path, count):
    usage = {"prompt_tokens": count, "completion_tokens": count, "total_tokens": 0}
    row = recorded(tmp_path, wire.text("All is", finish="length", usage=usage))
    assert (row["status"], row["error_kind"], row["tokens_in"], row["tokens_out"]) == ("error", "truncated", None, None)


def test_a_log_that_holds_such_counts_stays_readable(tmp_path, capsys):
    path = tmp_path / "l.db"
    recorded_ledger(path)
    database = sqlite3.connect(path)
    calls = database.execute("SELECT id FROM llm_calls").fetchall()
    for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        database.execute(f"DROP TRIGGER {name}")
    database.execute("UPDATE llm_calls SET tokens_in = 9223372036854775807, tokens_out = 9223372036854775807")
    database.commit()
    assert len(calls) > 1
    with pytest.raises(sqlite3.Error, match="overflow"):  # negative control: whole numbers are too small for the sum
        database.execute("SELECT sum(tokens_in) FROM llm_calls").fetchall()
    database.close()
    for command in (["log", "list"], ["log", "show"], ["log", "list", "--json"], ["explain", "R1"]):
        assert run.run([*command, "--ledger", str(path)]) == 0
    run.run(["log", "verify", "--ledger", str(path)])
    assert "could not be finished" not in capsys.readouterr().out
    with Reader.open(path) as reader:
        assert reader.costs().tokens_in > 2**63 and isinstance(reader.session().tokens_out, int)
