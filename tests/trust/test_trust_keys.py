"""Keys: which variables may hold one, where one is sent, and that none is in what a session leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from loguru import logger

import learning_signal.agents.session.running
from learning_signal import run
from learning_signal.agents.model.backends import build_client
from learning_signal.agents.model.keys import (
    DECLARED,
    PLACEHOLDERS,
    TOKENS,
    read_key,
    read_secrets,
    refused_key,
    refused_variable,
)
from learning_signal.agents.model.providers.spec import SpecError
from learning_signal.agents.model.specs import parse_spec
from learning_signal.agents.model.transport import MOST_BYTES
from learning_signal.agents.model.trial import check
from learning_signal.agents.session.session import run_session
from learning_signal.ledger.connection import open_to_read
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from learning_signal.tools.plan.settings import DeliberationSettings
from learning_signal.tools.plan.sources import KEY_VARIABLES, gather
from tests.support.scripted_server import Reply, call, error, serving, text
from tests.support.session_helpers import Recorder, resume_inline, tiny_settings
from tests.support.synthetic_training import InlinePool

KEY = "sk-canary/0123456789abcdef"
REDIRECTS = (301, 302, 303, 307, 308)


# which variables -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "PATH",
        "HOME",
        "DATABASE_URL",
        "SSH_AUTH_SOCK",
        "KEY",
        "API_KEY_FILE",
        "X_API_KEY_OLD",
        "MY_TOKEN",
        "NPM_TOKEN",
    ],
)
def test_a_variable_that_was_not_made_for_model_keys_is_refused(name):
    spec = parse_spec(f"openai-api/x@http://127.0.0.1:9/v1?api_key_env={name}")
    with pytest.raises(SpecError) as raised:
        read_key(spec, {name: KEY})
    sentence = str(raised.value)
    assert name in sentence and DECLARED in sentence and "_API_KEY" in sentence and KEY not in sentence
    # negative control: the user's own environment, and nothing else, can declare it
    assert read_key(spec, {name: KEY, DECLARED: f"OTHER, {name}"}) == KEY


@pytest.mark.parametrize("name", ["LAB_API_KEY", "AWS_BEDROCK_API_KEY", "x_API_KEY", *TOKENS])
def test_a_variable_that_was_made_for_them_is_read(name):
    assert refused_variable(name, {}) is None
    assert read_key(parse_spec(f"openai/x?api_key_env={name}"), {name: KEY}) == KEY


def test_a_declaration_is_no_setting_and_is_never_stored(monkeypatch, capsys):
    assert KEY_VARIABLES == DECLARED
    assert gather({}, {DECLARED: "MY_LAB_SECRET"}, None).values == {}
    with pytest.raises(ValueError, match="unknown"):  # negative control
        gather({}, {DECLARED + "S": "MY_LAB_SECRET"}, None)


def test_the_command_line_refuses_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_TOKEN", KEY)
    spec = "all=openai-api/x@http://127.0.0.1:9/v1?api_key_env=GITHUB_TOKEN"
    assert run.run(["session", "--agent", spec]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and "GITHUB_TOKEN" in printed.err and printed.err.count("\n") == 1
    assert KEY not in printed.err + printed.out and list(tmp_path.iterdir()) == []


# what a key looks like -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("sk-0123456\n789abcdef", "character 11 is no visible ASCII (U+000A)"),
        ("sk-0123456789abcdef\n", "character 20 is no visible ASCII (U+000A)"),
        ("sk\u20140123456789abcdef", "character 3 is no visible ASCII (U+2014, em dash)"),
        ("sk-0123456789abcd\xe9f", "U+00E9"),
        ("sk-0123456789abcd\U0001f511f", "U+1F511"),
        ("sk-01234567 89abcdef", "U+0020"),
        ("sk-0123456789\udcffabcdef", "U+DCFF"),
        ("sk-0123456789abcdef\x7f", "U+007F"),
        ("k", "fewer than 16 characters"),
        ("CANRY7", "fewer than 16 characters"),
        ("lab-key-2026abc", "fewer than 16 characters"),
    ],
)
def test_a_key_that_cannot_be_used_or_kept_out_of_the_log_is_refused_when_read(key, says):
    with pytest.raises(SpecError) as raised:
        read_key(parse_spec("openai/x?api_key_env=LAB_API_KEY"), {"LAB_API_KEY": key})
    sentence = str(raised.value)
    assert "LAB_API_KEY" in sentence and says in sentence and "\n" not in sentence
    assert len(key) == 1 or key.strip() not in sentence


def test_a_usable_key_is_taken_as_it_is():
    assert refused_key("lab-key-2026abcd", "LAB_API_KEY") is None  # 16 characters
    assert read_key(parse_spec("openai/x"), {"OPENAI_API_KEY": f" {KEY} "}) == KEY


@pytest.mark.parametrize("key", sorted(PLACEHOLDERS) + ["EMPTY", "None"])
def test_a_placeholder_is_sent_as_it_is_and_is_no_secret(key):
    spec, environment = parse_spec("openai/x"), {"OPENAI_API_KEY": key}
    assert read_key(spec, environment) == key and read_secrets(spec, environment) == ()
    with pytest.raises(SpecError, match="fewer than 16 characters"):  # negative control: the list is closed
        read_key(spec, {"OPENAI_API_KEY": key[:12] + "x"})
    assert read_secrets(spec, {"OPENAI_API_KEY": KEY}) == (KEY,)


def test_a_session_on_a_server_without_keys_keeps_its_words(tmp_path, monkeypatch):
    """Over HTTP: OPENAI_API_KEY=EMPTY works, and no text loses the words that stand for having no key."""
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    words = "None of the shelves is EMPTY, none is empty."

    async def main():
        async with serving(text(words), error(400, "that is all")) as server:
            monkeypatch.setenv("OPENAI_BASE_URL", server.address)
            settings = with_critic(tiny_settings(tmp_path), "openai/some-model")
            outcome = await run_session(settings, observer=Recorder(), executor=InlinePool(settings.store))
            return outcome, server.requests

    outcome, requests = asyncio.run(main())
    assert outcome.status == "paused" and "that is all" in outcome.stop_reason
    assert requests[0].headers["authorization"] == "Bearer EMPTY"
    sent = json.dumps([request.body for request in requests])
    assert words in sent and "[redacted]" not in sent  # the second request repeats what the first was answered
    with Reader.open(tmp_path / "ledger.db") as reader:
        assert any(words in event.title for event in reader.events())
    assert b"[redacted]" not in (tmp_path / "ledger.db").read_bytes()


# where a key is sent ---------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def redirecting(status: int, location: str | None = None):
    """A server that sends every request on to a second one, and that second one."""
    async with serving(text("I answer for the other.")) as other:
        target = f"{other.address}/chat/completions" if location is None else location
        async with serving(Reply(status, raw=b"", headers={"location": target})) as first:
            yield first, other


async def asked(address: str):
    """One call over a client that an agent would have."""
    spec = parse_spec(f"openai-api/x@{address}")
    return await check(spec, {"X_API_KEY": KEY}, timeout=2.0)


@pytest.mark.parametrize("status", REDIRECTS)
def test_a_redirect_gets_neither_the_key_nor_the_prompt(status):
    async def main():
        async with redirecting(status) as (first, other):
            result = await asked(first.address)
            assert not result.ok and urlsplit(other.address).netloc in result.sentence
            assert "redirected" in result.sentence and KEY not in result.sentence
            assert len(first.requests) == 1 and other.requests == []
            assert first.requests[0].headers["authorization"] == f"Bearer {KEY}"
            return result.sentence

    assert asyncio.run(main()).count(". ") == 0


@pytest.mark.parametrize("status", REDIRECTS)
def test_without_the_guard_the_prompt_does_follow(status, monkeypatch):
    """Negative control: what the SDK does by itself."""
    import openai

    monkeypatch.setattr(
        "learning_signal.agents.model.transport.guarded_client", lambda *_: openai.DefaultAsyncHttpxClient()
    )

    async def main():
        async with redirecting(status) as (first, other):
            await asked(first.address)
            return len(other.requests)

    assert asyncio.run(main()) == 1


@pytest.mark.parametrize("location", ["", "http://[", "//\x1b]0;x\x07/", "http://user:pw@h@i/"])
def test_a_redirect_to_nowhere_is_one_clean_sentence(location):
    async def main():
        async with redirecting(307, location) as (first, _):
            return await asked(first.address)

    result = asyncio.run(main())
    assert not result.ok and "redirected" in result.sentence and "\x1b" not in result.sentence


def test_a_session_pauses_at_a_redirect_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("X_API_KEY", KEY)

    async def main():
        async with redirecting(307) as (first, other):
            settings = with_critic(tiny_settings(tmp_path), f"openai-api/x@{first.address}")
            outcome = await run_session(settings, observer=Recorder(), executor=InlinePool(settings.store))
            return outcome, len(first.requests), len(other.requests)

    outcome, sent, followed = asyncio.run(main())
    assert (outcome.status, sent, followed) == ("paused", 1, 0)
    assert "redirected" in outcome.stop_reason


# how much is read ------------------------------------------------------------------------------------------------


def packed(reply: Reply, **headers: str) -> Reply:
    body = gzip.compress(json.dumps(reply.body).encode())
    return Reply(raw=body, headers={"content-encoding": "gzip", **headers})


READY = call("report_status", '{"status": "ready"}')
BODIES = {
    "too long": (Reply(raw=b" " * (MOST_BYTES + 1)), "more than 8 MB"),
    "a bomb": (Reply(raw=gzip.compress(bytes(4 * MOST_BYTES), 1), headers={"content-encoding": "gzip"}), "more than 8"),
    "not packed": (Reply(raw=b"{}", headers={"content-encoding": "gzip"}), "not the gzip data"),
    "another packing": (Reply(raw=b"{}", headers={"content-encoding": "br"}), "compressed as 'br'"),
    "packed twice": (Reply(raw=b"{}", headers={"content-encoding": "gzip, gzip"}), "compressed as 'gzip, gzip'"),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_cannot_be_read_is_the_server_s_fault(case):
    async def main():
        async with serving(BODIES[case][0]) as server:
            return await asked(server.address)

    result = asyncio.run(main())
    assert not result.ok and BODIES[case][1] in result.sentence and "start the server" not in result.sentence


@pytest.mark.parametrize("reply", [READY, packed(READY)], ids=["plain", "gzip"])
def test_a_body_within_the_bound_is_read(reply):
    async def main():
        async with serving(reply) as server:
            return await asked(server.address)

    assert asyncio.run(main()).ok


def test_a_long_reply_within_the_bound_arrives_whole():
    words = "word " * 400_000

    async def main():
        async with serving(text(words)) as server:
            client = build_client(parse_spec(f"openai-api/x@{server.address}"), "critic", environment={})
            from autogen_core.models import UserMessage

            try:
                return await client.create([UserMessage(content="Go on.", source="user")])
            finally:
                await client.close()

    assert asyncio.run(main()).content == words


# what a session leaves behind ------------------------------------------------------------------------------------


def with_critic(settings, spec: str):
    return settings.model_copy(update={"agents": settings.agents | {"critic": spec}})


def echoing(key: str) -> list[Reply]:
    """What a server answers that says the key wherever it can."""
    diagnosis = {
        "stage": "exploring",
        "advice": f"Use {key}.",
        "failures": [{"description": f"The key is {key}.", "evidence": ["E1"]}],
    }
    names = {"names": ["progress"], "note": key}
    return [
        error(500, f"no answer for {key}"),
        text(f"Your key is {key}, is it?"),
        call("query_metrics", json.dumps(names), content=f"I was given {key}."),
        call("query_metrics", json.dumps({"names": ["progress"]}), content=f"Again {key}."),
        call("submit_diagnosis", json.dumps(diagnosis | {"stage": key})),
        error(401, f"wrong key {key}"),
    ]


def left_behind(tmp_path: Path, monkeypatch, key: str) -> tuple[str, bytes]:
    """How a session with such a server ends, and every byte that it wrote or said."""
    monkeypatch.setenv("X_API_KEY", key)
    said = io.StringIO()
    sink = logger.add(said, level="TRACE", diagnose=False)

    async def main() -> str:
        async with serving(*echoing(key)) as server:
            settings = tiny_settings(tmp_path, deliberation=DeliberationSettings(candidates=2, refinements=0, steps=8))
            settings = with_critic(settings, f"openai-api/x@{server.address}?attempts=2")
            watcher = Recorder()
            try:
                outcome = await run_session(settings, observer=watcher, executor=InlinePool(settings.store))
            except SpecError as refusal:
                said.write(str(refusal))
                return "refused"
            said.write(repr((outcome, watcher.events, watcher.stages)))
            return outcome.status

    try:
        status = asyncio.run(main())
    finally:
        logger.remove(sink)
    files = b"".join(path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file())
    return status, files + said.getvalue().encode()


@pytest.mark.parametrize("length", [6, 7, 15, 16, 40])
def test_no_key_of_any_length_is_in_what_a_session_leaves_behind(tmp_path, monkeypatch, length):
    key = ("CANRY7" + "qX9wZ3vK5m" * 4)[:length]
    status, found = left_behind(tmp_path, monkeypatch, key)
    assert key.encode() not in found
    # a shorter one is refused before anything is asked or written; else it was said, and taken out
    assert status == ("refused" if length < 16 else "paused")
    assert (b"Your key is [redacted], is it?" in found) == (length >= 16)


def test_a_key_the_ledger_does_not_know_is_found_in_what_is_left(tmp_path, monkeypatch):
    """Negative control."""
    monkeypatch.setattr(Ledger, "add_secrets", lambda self, values: None)
    monkeypatch.setattr(learning_signal.agents.session.session, "secrets_of", lambda settings: [])
    key = "CANRY7qX9wZ3vK5m"
    _, found = left_behind(tmp_path, monkeypatch, key)
    assert key.encode() in found


def test_a_resumed_session_goes_on_with_the_texts_it_had(tmp_path, monkeypatch):
    """What was taken out of the cursor is taken out for good: the resume reads one text, whatever was said."""
    key = "CANRY7qX9wZ3vK5m"
    status, _ = left_behind(tmp_path, monkeypatch, key)
    with Reader.open(tmp_path / "ledger.db") as reader:
        state = json.dumps(reader.cursor())
    assert status == "paused" and "[redacted]" in state and key not in state
    assert resume_inline(tiny_settings(tmp_path), agents={"critic": "rules"}).status == "done"


def test_the_write_ahead_log_is_empty_once_the_writer_is_closed(tmp_path):
    path, log = tmp_path / "l.db", tmp_path / "l.db-wal"
    with Ledger.open(path) as ledger:
        session = ledger.begin_session(task="t", algorithm="mappo", seed=0, config={}, code_version="0")
        watching = open_to_read(path)  # as a live view does: SQLite then leaves the log where it is
        assert watching.execute("SELECT count(*) FROM sessions").fetchone() == (1,)
        for number in range(50):
            ledger.save_cursor(session, {"text": f"once said {number}"})
        assert b"once said 7" in log.read_bytes()  # negative control: it was there
    assert not log.exists() or log.stat().st_size == 0
    assert watching.execute("SELECT count(*) FROM sessions").fetchone() == (1,)
    watching.close()
    with Reader.open(path) as reader:
        assert reader.cursor(session) == {"text": "once said 49"}


def test_a_reader_in_the_middle_of_a_query_does_not_hold_up_the_end(tmp_path):
    with Ledger.open(tmp_path / "l.db") as ledger:
        session = ledger.begin_session(task="t", algorithm="mappo", seed=0, config={}, code_version="0")
        reading = open_to_read(tmp_path / "l.db")
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM events").fetchone()
        ledger.event(session, "session", "later")
    reading.close()
    with Reader.open(tmp_path / "l.db") as reader:
        assert [event.title for event in reader.events(session)] == ["later"]


def test_an_error_of_the_server_is_shown_without_the_key():
    async def main():
        async with serving(error(400, f"bad {KEY}")) as server:
            return await asked(server.address)

    sentence = asyncio.run(main()).sentence
    assert KEY not in sentence and "[redacted]" in sentence
