"""What the versions of the ledger from the seventh on add, as SQL, applied by ledger/migrations.py."""

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

PACKED_EVALUATIONS = """
CREATE TABLE new_evaluations (                 -- unshaped evaluation of a segment on held-out episodes
    id INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL,
    segment_id TEXT NOT NULL,
    episode_set TEXT NOT NULL CHECK (episode_set IN ('query', 'screen', 'confirm', 'report')),
    env_steps INTEGER NOT NULL,
    episodes INTEGER NOT NULL,
    sparse_return REAL NOT NULL,               -- mean over episodes
    progress REAL,                             -- mean over episodes, NULL where the task declares none
    points INTEGER,                            -- of its segment: the later half is counted among them
    packed BLOB NOT NULL,                      -- {"sparse_returns": [...], "progress": [...] or null} by episode
    size INTEGER NOT NULL,                     -- of that JSON in bytes: read it through the view episodes
    UNIQUE (session_id, segment_id, episode_set, env_steps),
    FOREIGN KEY (session_id, segment_id) REFERENCES segments(session_id, id)
) STRICT;
INSERT INTO new_evaluations (id, session_id, segment_id, episode_set, env_steps, episodes, sparse_return, progress,
    points, packed, size)
    SELECT evaluations.id, session_id, segment_id, episode_set, env_steps, episodes, sparse_return, progress,
    points, sqlar_compress(CAST(body AS BLOB)), length(CAST(body AS BLOB))
    FROM evaluations JOIN bodies ON hash = detail ORDER BY evaluations.id;
CREATE TEMP TABLE packed_bodies AS SELECT DISTINCT detail FROM evaluations;
DROP TABLE evaluations;
DELETE FROM bodies WHERE hash IN (SELECT detail FROM packed_bodies);
DROP TABLE packed_bodies;
ALTER TABLE new_evaluations RENAME TO evaluations;
CREATE VIEW episodes AS                        -- one row per episode of an evaluation
    SELECT session_id, segment_id, episode_set, env_steps, number.key + 1 AS episode, number.value AS sparse_return,
    json_extract(CAST(sqlar_uncompress(packed, size) AS TEXT), '$.progress[' || number.key || ']') AS progress
    FROM evaluations, json_each(CAST(sqlar_uncompress(packed, size) AS TEXT), '$.sparse_returns') AS number;
"""
"""Makes the table anew for the ninth version: until then its episodes were JSON in bodies."""

PACKED_METRICS = """
CREATE TABLE packed_metrics (                  -- the metrics of a segment, update by update
    session_id TEXT NOT NULL,
    segment_id TEXT NOT NULL,
    packed BLOB NOT NULL,                      -- {"env_steps": [...], metric: [... or null]}, a value per update
    size INTEGER NOT NULL,                     -- of that JSON in bytes: read it through the view metrics
    PRIMARY KEY (session_id, segment_id),
    FOREIGN KEY (session_id, segment_id) REFERENCES segments(session_id, id)
) STRICT;
INSERT INTO packed_metrics
    SELECT session_id, segment_id, sqlar_compress(CAST(text AS BLOB)), length(CAST(text AS BLOB)) FROM (
    SELECT session_id, segment_id, json_group_object(name, json(list)) AS text FROM (
    SELECT session_id, segment_id, name, json_group_array(value) AS list FROM (
    SELECT session_id, segment_id, env_steps, 'env_steps' AS name, env_steps AS value FROM metrics GROUP BY 1, 2, 3
    UNION ALL SELECT session_id, segment_id, env_steps, name, value FROM metrics ORDER BY 1, 2, 4, 3
    ) GROUP BY 1, 2, 3) GROUP BY 1, 2);
DROP TABLE metrics;
CREATE VIEW metrics AS                         -- one row per update and metric
    SELECT session_id, segment_id,
    json_extract(CAST(sqlar_uncompress(packed, size) AS TEXT), '$.env_steps[' || number.key || ']') AS env_steps,
    metric.key AS name, number.value AS value
    FROM packed_metrics, json_each(CAST(sqlar_uncompress(packed, size) AS TEXT)) AS metric,
    json_each(metric.value) AS number WHERE metric.key <> 'env_steps';
"""
"""Takes the place of the table of metrics for the ninth version: until then every value was a row."""

LINKS = """
CREATE TABLE links (                           -- the chain of a session, one link per transaction
    session_id TEXT NOT NULL REFERENCES sessions(id),
    number INTEGER NOT NULL,                   -- 1, 2 ...
    entries TEXT NOT NULL,                     -- JSON: the rows it wrote, as ledger/chain/links.py describes
    hash TEXT NOT NULL,                        -- SHA-256 over these, their rows and the link before
    PRIMARY KEY (session_id, number)
) STRICT, WITHOUT ROWID;
"""
"""The table of the ninth version: earlier ones had a chain of decisions alone."""

_DETAIL = "(SELECT CAST(body AS BLOB) FROM bodies WHERE hash = evaluations.detail)"
UNPACKED = {"evaluations": {"packed": _DETAIL, "size": f"length({_DETAIL})"}}
"""What the columns of the ninth version hold for rows of earlier ones, as SQL over their tables."""
PACKED_SINCE = 9

HASHES = {
    "segments": {
        "checkpoint": "TEXT",  # SHA-256 of its checkpoint's file; None where it has none
        "policy": "TEXT",  # hash of the weights of its policy
    }
}
"""The columns of the tenth version, by table; None in rows of earlier ones, which said nothing of files."""
HASHES_SINCE = 10
