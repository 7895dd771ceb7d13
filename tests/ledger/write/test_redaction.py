"""Secrets never reach the ledger: known values, and what looks like a key; ordinary text stays."""

from __future__ import annotations

import json
import sqlite3
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.events.search import search
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.redaction import MARK, Redactor
from learning_signal.ledger.write.writer import Ledger

CANARY = 'canary/7f3a"9b\\x1+key'  # with characters that JSON and URLs write differently


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key sk-abcd1234efgh5678ijkl.", f"key {MARK}."),
        ("sk-ant-api03-abcdefghij0123456789", MARK),
        ("sk-proj-AbC_123-defghijklmnop", MARK),
        ("Authorization: Bearer abc.def-123", f"Authorization: Bearer {MARK}"),
        ("authorization: bearer abcdefghijklmnopqrstuvwxyz", f"authorization: bearer {MARK}"),
        ("https://h/v1?api_key=abc123def&x=1", f"https://h/v1?api_key={MARK}&x=1"),
        ('{"api_key": "abc123def"}', f'{{"api_key": "{MARK}"}}'),
        ('{\\"api-key\\": \\"abc123def\\"}', f'{{\\"api-key\\": \\"{MARK}\\"}}'),
        ("http://user:pa55@host/v1", f"http://{MARK}@host/v1"),
        ("AIzaSyA1234567890abcdefghijklmnopqrstuv", MARK),
        ("hf_abcdefghijklmnopqrst", MARK),
        ("gsk_abcdefghijklmnopqrst", MARK),
        ("xai-abcdefghijklmnopqrst", MARK),
        ("line\\nsk-abcd1234efgh5678ijkl", f"line\\n{MARK}"),
    ],
)
def test_what_looks_like_a_key_is_redacted(text: str, expected: str) -> None:
    redactor = Redactor()
    assert redactor.text(text) == expected
    assert redactor.text(expected) == expected  # idempotent: a hash of redacted text stays true


@pytest.mark.parametrize(
    "text",
    [
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "task-20261122-154501-k3f and risk-averse-exploration-2-of-3-agents",
        "sk-learn-like-estimators",
        "the bearer of the news, bearer movement",
        "openai-api/lab/model@http://127.0.0.1:8000/v1?api_key_env=LAB_API_KEY",
        '{"api_key": null, "tokens_in": 1200, "max_tokens": 4096}',
        "coverage_distance * -1.0 + exp(-nearest_landmark_distance)",
        "xai-based and hf_small and gsk_x",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert Redactor(["unrelated-secret"]).text(text) == text


def test_exact_values_in_every_form_the_longest_first() -> None:
    redactor = Redactor(["secret-value", "secret-value-longer", "tiny"])
    assert redactor.text("secret-value-longer, secret-value, tiny") == f"{MARK}, {MARK}, tiny"
    redactor.add([CANARY])
    assert redactor.text(json.dumps({"a": CANARY})) == json.dumps({"a": MARK})
    assert redactor.text("?k=canary%2F7f3a%229b%5Cx1%2Bkey") == f"?k={MARK}"
    assert redactor.value({CANARY: [CANARY, 1, None]}) == {MARK: [MARK, 1, None]}


def test_a_key_is_in_no_byte_of_the_ledger(tmp_path: Path) -> None:
    assert _bytes_with(tmp_path / "clean.db", secrets=[CANARY]) == []
    # negative control: the same writes without the secret being known do leave it there
    assert _bytes_with(tmp_path / "leaky.db", secrets=[]) != []


def _refused(known: bool) -> AbstractContextManager[object]:
    message = "holds an API key, and keys are never"
    return pytest.raises(LedgerError, match=message) if known else nullcontext()


@pytest.mark.parametrize("secret", ["ollama", "spread", "key-of-15-chars"])
def test_a_key_that_is_a_word_changes_neither_configuration_nor_cursor(tmp_path: Path, secret: str) -> None:
    config = {"agents": {"critic": f"{secret}/qwen3:8b@http://{secret}:11434/v1"}, secret: [secret]}
    state = {"agent_state": f'I, {secret}, said "{secret}"', "phase": "critic"}
    with Ledger.open(tmp_path / "l.db", secrets=[secret]) as ledger:
        session = ledger.begin_session(task="t", algorithm="mappo", seed=0, config=config, code_version="0")
        ledger.save_cursor(session, state)
        assert ledger.load_cursor(session) == state
        seq = ledger.event(session, "message", f"{secret} answers")
        with Reader.open(ledger.path) as reader:
            assert reader.config(session) == config
            assert reader.cursor(session) == state
            assert reader.entry(seq).event.title == f"{MARK} answers"  # what only people read stays redacted


@pytest.mark.parametrize("state", ["{}", '{{"a": "{}"}}', '{{\\"a\\": \\"{}\\"}}', "http://h/?k={}&x"])
def test_a_cursor_loses_a_key_and_nothing_else(tmp_path: Path, state: str) -> None:
    key = "abcdefgh12345678"
    with Ledger.open(tmp_path / "l.db", secrets=[key]) as ledger:
        session = ledger.begin_session(task="t", algorithm="mappo", seed=0, config={}, code_version="0")
        ledger.save_cursor(session, {"text": state.format(key[:-1])})  # negative control: one character less
        assert ledger.load_cursor(session) == {"text": state.format(key[:-1])}
        ledger.save_cursor(session, {"text": [state.format(key), "Bearer abc123def456"]})
        assert ledger.load_cursor(session) == {"text": [state.format("[redacted]"), "Bearer abc123def456"]}


def _bytes_with(path: Path, secrets: list[str]) -> list[str]:
    forms = [CANARY, json.dumps(CANARY)[1:-1]]
    with Ledger.open(path) as ledger:
        ledger.add_secrets(secrets)
        row = {"task": f"spread {CANARY}", "algorithm": "mappo", "seed": 0, "code_version": "0"}
        for leaky in ({"key": CANARY}, {CANARY: 1}, {"arguments": json.dumps({"key": CANARY})}):
            with _refused(bool(secrets)):
                session = ledger.begin_session(config=leaky, **row)
        session = ledger.begin_session(config={"rounds": 1}, **row)
        event = ledger.event(session, "error", f"my server said {CANARY}", status="pending")
        ledger.add(
            "messages",
            event_seq=event,
            session_id=session,
            source="critic",
            type="text",
            body=f"the server wants {CANARY}",
        )
        call = ledger.add(
            "tool_calls",
            event_seq=event,
            session_id=session,
            agent="critic",
            call_id=CANARY,
            name="ask",
            arguments=json.dumps({"key": CANARY}),
            status="pending",
        )
        ledger.complete("tool_calls", call, status="error", result=f"ERROR: {CANARY}")
        ledger.complete_event(event, "error", title=f"401 for {CANARY}")
        ledger.save_cursor(session, {"brief": CANARY})
        ledger.end_session(session, "failed", f"401 for {CANARY}")
        # read while the write-ahead log is still there
        files = sorted(path.parent.glob(f"{path.name}*"))
        assert any(file.name.endswith("-wal") for file in files)
        found = [f.name for f in files for form in forms if form.encode() in f.read_bytes()]
    with Reader.open(path) as reader:
        assert search(reader, "server")  # the text around the key is still found
    words = sqlite3.connect(path).execute("SELECT count(*) FROM bodies_text WHERE bodies_text MATCH '7f3a'").fetchone()
    assert (words[0] == 0) == bool(secrets)
    return found + [path.name for form in forms if form.encode() in path.read_bytes()]
