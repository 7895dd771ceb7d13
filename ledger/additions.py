"""What the seventh and eighth version of the ledger add, as SQL, applied by ledger/migrations.py."""

from __future__ import annotations

CLAIMS = """
CREATE TABLE claims (                          -- words of an agent, held against the record when they were submitted
    id INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions(id),
    round INTEGER NOT NULL,
    event_seq INTEGER NOT NULL REFERENCES events(seq), -- of the row that the words are part of
    about TEXT NOT NULL CHECK (about IN ('diagnoses', 'proposals', 'verdicts', 'decisions', 'events')),
    row_id TEXT NOT NULL,                      -- of that row
    agent TEXT NOT NULL,
    words TEXT NOT NULL REFERENCES bodies(hash),       -- JSON: text by field; the whole of a diagnosis
    known TEXT NOT NULL REFERENCES bodies(hash),       -- JSON: what they were held against besides rows
    marks TEXT NOT NULL REFERENCES bodies(hash)        -- JSON list: what the record does not support; [] if nothing
) STRICT;
CREATE INDEX claims_by_session ON claims (session_id, round);
"""
"""The table of the seventh version: earlier ones did not check claims."""

REMARKS = """
CREATE TABLE remarks (                         -- what code found doubtful about a candidate
    candidate_id TEXT PRIMARY KEY REFERENCES candidates(id),
    session_id TEXT NOT NULL REFERENCES sessions(id),
    remarks TEXT NOT NULL,                     -- JSON list, one sentence each
    answer TEXT                                -- of the Generator; None where it gave none
) STRICT;
CREATE INDEX remarks_by_session ON remarks (session_id);
"""
"""Of the seventh version too: earlier candidates got no remarks."""

REASONS = {
    "branches": {"reason": "TEXT"}  # why the Validator had it confirmed, where the ranking had another one first
}
"""The columns of the seventh version, by table; None in rows of earlier ones, of which the event says it."""
REASONS_SINCE = 7

TOKENS = {
    "llm_calls": {
        "tokens_cached": "INTEGER",  # of tokens_in, read from the server's cache; None where it does not say
        "tokens_cache_written": "INTEGER",  # of tokens_in, written to it at a price of its own
        "tokens_reasoning": "INTEGER",  # of tokens_out
    }
}
"""The columns of the eighth version, by table; None in rows of earlier ones, which did not keep them."""
TOKENS_SINCE = 8
