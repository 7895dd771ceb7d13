"""Full-text search over messages, tool calls and their results."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.ids import ID_IN_SQL
from learning_signal.ledger.read.query import Query, event_filter
from learning_signal.ledger.read.records import EventRow, SearchHit

OPEN, CLOSE = "«", "»"
MOST_WORDS, MOST_CHARACTERS = 64, 1_000
"""Of what is searched for; the time of a search grows with both."""
SNIPPET_WORDS = 24
SNIPPET_CHARACTERS = 160

# Replies of calls that went well are left out: the same text stands in messages and tool calls.
_PLACES = """
    SELECT event_seq, 'said' place FROM messages WHERE body = ?1
    UNION ALL SELECT event_seq, 'arguments' FROM tool_calls WHERE arguments = ?1
    UNION ALL SELECT event_seq, 'result' FROM tool_calls WHERE result = ?1
    UNION ALL SELECT event_seq, 'reply' FROM llm_calls WHERE reply = ?1 AND status <> 'ok'
"""
_INDEXED = (
    "SELECT b.id, b.hash FROM bodies_text t JOIN bodies b ON b.id = t.rowid WHERE t.bodies_text MATCH ? ORDER BY rank"
)
_SNIPPET = (
    f"SELECT snippet(bodies_text, 0, '{OPEN}', '{CLOSE}', '…', {SNIPPET_WORDS}) snippet FROM bodies_text "
    "WHERE bodies_text MATCH ? AND rowid = ?"
)
_SCANNED = "SELECT id, hash FROM bodies JOIN searchable_bodies USING (id) WHERE body LIKE ? ESCAPE '\\' ORDER BY id"


def search(
    reader: Query,
    text: str,
    session: str | None = None,
    agent: str | None = None,
    round: int | None = None,
    kind: str | None = None,
    limit: int | None = 50,
) -> list[SearchHit]:
    """Where these words occur in what was said, called or answered, the best ``limit`` matches first (None: all).

    None for ``session`` searches all sessions, None for another filter leaves it out.

    ``text`` is an FTS5 query (words, "a phrase", AND, OR, NOT, prefix*). If it is not valid, its words are searched
    literally; if the index has no such words (punctuation), the text itself is searched. ``LedgerError``: it is empty,
    or too long.
    """
    if not text.strip():
        raise LedgerError("Nothing to search for was given; give a word or a quoted phrase.")
    if len(text) > MOST_CHARACTERS or len(text.split()) > MOST_WORDS:
        raise LedgerError(
            f"Found {len(text):,} characters to search for, expected at most {MOST_WORDS} words of "
            f"{MOST_CHARACTERS:,} characters in all: give a few of them."
        )
    chosen = None if session is None else reader.session_id(session)
    where, values = event_filter(session_id=chosen, agent=agent, round=round, kind=kind)
    where = f"{where} AND e.session_id {ID_IN_SQL}"
    words = " ".join('"' + word.replace('"', '""') + '"' for word in text.split())
    pattern = "%" + re.sub(r"([\\%_])", r"\\\1", text.strip()) + "%"
    for query, argument in ((_INDEXED, text), (_INDEXED, words), (_SCANNED, pattern)):
        try:
            hits = _hits(reader, query, argument, where, values, limit)
        except LedgerError:
            if query is _SCANNED:
                raise
            continue  # not an FTS5 query: take the words literally
        if hits or query is _SCANNED:
            break
    seen = {hit.event.seq for hit in hits}
    titles = reader.rows(
        f"SELECT * FROM events e WHERE {where} AND e.title LIKE ? ESCAPE '\\' ORDER BY e.seq DESC LIMIT ?",
        (*values, pattern, -1 if limit is None else limit),
    )
    hits += [SearchHit(EventRow(**row), "title", _cut(row["title"], text)) for row in titles if row["seq"] not in seen]
    return hits[:limit]


def _hits(
    reader: Query, query: str, argument: str, where: str, values: list[Any], limit: int | None
) -> list[SearchHit]:
    found = reader.rows(query, (argument,))
    names = [field.name for field in fields(EventRow)]
    hits: list[SearchHit] = []
    for body in found:
        places = reader.rows(
            f"SELECT e.*, p.place FROM ({_PLACES}) p JOIN events e ON e.seq = p.event_seq "
            f"WHERE {_numbered(where)} ORDER BY e.seq",
            (body["hash"], *values),
        )
        if not places:
            continue
        if query is _INDEXED:  # only now: a snippet costs more than the match
            (cut,) = (row["snippet"] for row in reader.rows(_SNIPPET, (argument, body["id"])))
        else:
            cut = _cut(reader.body(body["hash"]), argument.strip("%"))
        hits += [SearchHit(EventRow(**{name: row[name] for name in names}), row["place"], cut) for row in places]
        if limit is not None and len(hits) >= limit:
            break
    return hits


def _numbered(where: str) -> str:
    """``where`` with its question marks numbered from 2: 1 is the hash."""
    parts = where.split("?")
    return "".join(f"{part}?{index + 2}" for index, part in enumerate(parts[:-1])) + parts[-1]


def _cut(text: str, wanted: str) -> str:
    """The part of ``text`` around ``wanted``, marked."""
    at = text.lower().find(wanted.lower())
    if at < 0:
        return text[:SNIPPET_CHARACTERS]
    start, end = max(0, at - SNIPPET_CHARACTERS // 2), at + len(wanted)
    before, after = "…" if start else "", "…" if end + SNIPPET_CHARACTERS // 2 < len(text) else ""
    rest = text[end : end + SNIPPET_CHARACTERS // 2]
    return f"{before}{text[start:at]}{OPEN}{text[at:end]}{CLOSE}{rest}{after}"
