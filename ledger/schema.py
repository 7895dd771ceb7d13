"""The tables of the ledger as SQL, applied by ledger/migrations.py. Times are UTC ISO 8601 text."""

from __future__ import annotations

APPLICATION_ID = 0x4D4C6564
"""``PRAGMA application_id`` of every ledger, so that another program's database is never taken for one."""
VERSION = 10
"""``PRAGMA user_version`` of a ledger that has every migration. Known here, a reader need not load the migrations."""

FIRST = """
CREATE TABLE bodies (                          -- long texts, stored once: messages, prompts, results, JSON
    id INTEGER PRIMARY KEY,                    -- a lasting row number: the full-text index points to it
    hash TEXT NOT NULL UNIQUE,                 -- SHA-256 of the (redacted) body
    body TEXT NOT NULL
) STRICT;

CREATE TABLE searchable_bodies (               -- the bodies worth searching: what was said, not number tables
    id INTEGER PRIMARY KEY REFERENCES bodies(id)
) STRICT;

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,                       -- short and sortable, e.g. 20261122-154501-k3f
    kind TEXT NOT NULL CHECK (kind IN ('run', 'training')), -- training: one shaping, no agents
    status TEXT NOT NULL CHECK (status IN ('running', 'paused', 'interrupted', 'failed', 'done')),
    stop_reason TEXT,                          -- one sentence, when not running
    task TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    seed INTEGER NOT NULL,
    config TEXT NOT NULL REFERENCES bodies(hash),      -- the whole session configuration as JSON
    code_version TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    run_token TEXT NOT NULL,                   -- new at every begin and resume: who was taken over notices
    started_at TEXT NOT NULL,
    heartbeat_at TEXT NOT NULL,
    ended_at TEXT,
    wall_seconds REAL NOT NULL DEFAULT 0       -- summed over interruptions
) STRICT;

CREATE TABLE agents (                          -- who speaks in a session, and behind which backend
    session_id TEXT NOT NULL REFERENCES sessions(id),
    role TEXT NOT NULL CHECK (role IN ('critic', 'generator', 'validator', 'coordinator')),
    spec TEXT NOT NULL,                        -- backend spec as given, e.g. ollama/qwen3:8b
    source TEXT NOT NULL,                      -- command line, environment, config file or default
    prompt TEXT NOT NULL REFERENCES bodies(hash),      -- the role's system prompt as it was sent
    tools TEXT NOT NULL REFERENCES bodies(hash),       -- JSON schemas of the role's tools
    since TEXT NOT NULL,                       -- a resume may bring another backend: one row per change
    PRIMARY KEY (session_id, role, since)
) STRICT;

CREATE TABLE cursors (                         -- where the session stands; the only row rewritten in place
    session_id TEXT PRIMARY KEY REFERENCES sessions(id),
    state TEXT NOT NULL                        -- JSON
) STRICT;

CREATE TABLE events (                          -- the one ordered story of a session
    seq INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions(id),
    round INTEGER,                             -- None outside a round
    phase TEXT,                                -- of a round: critic, generator, validator, coordinator; else
                                               -- stage, report; of a segment its purpose: main, screen ...
    agent TEXT,                                -- role that acted, 'human', or None (code)
    kind TEXT NOT NULL,                        -- session, stage, message, llm_call, tool_call, segment,
                                               -- branch, diagnosis, proposal, comparison, verdict,
                                               -- decision, question, approval, probation, need,
                                               -- speculation, error, shadow
    status TEXT NOT NULL CHECK (status IN ('pending', 'ok', 'error', 'refused', 'interrupted')),
    title TEXT NOT NULL,                       -- one line for a person
    ref_table TEXT,
    ref_id TEXT,
    started_at TEXT NOT NULL,
    ended_at TEXT
) STRICT;
CREATE INDEX events_by_session ON events (session_id, seq);

CREATE TABLE messages (                        -- what an agent was told or said
    id INTEGER PRIMARY KEY,
    event_seq INTEGER NOT NULL REFERENCES events(seq),
    session_id TEXT NOT NULL REFERENCES sessions(id),
    source TEXT NOT NULL,                      -- role, 'session' (code) or 'human'
    target TEXT,                               -- role addressed
    type TEXT NOT NULL CHECK (type IN ('system', 'task', 'text', 'thought', 'question', 'answer', 'nudge')),
    body TEXT NOT NULL REFERENCES bodies(hash)
) STRICT;

CREATE TABLE llm_calls (                       -- one row per attempt
    id INTEGER PRIMARY KEY,
    event_seq INTEGER NOT NULL REFERENCES events(seq),
    session_id TEXT NOT NULL REFERENCES sessions(id),
    agent TEXT NOT NULL,
    request_hash TEXT NOT NULL,                -- of spec, messages, tools: a resumed step finds its reply
    attempt INTEGER NOT NULL,
    spec TEXT NOT NULL,
    model_requested TEXT NOT NULL,
    model_served TEXT,
    context TEXT NOT NULL REFERENCES bodies(hash),     -- JSON list of body hashes, one per message sent
    tools TEXT NOT NULL REFERENCES bodies(hash),
    reply TEXT REFERENCES bodies(hash),        -- JSON of the reply, when there was one
    status TEXT NOT NULL CHECK (status IN ('pending', 'ok', 'error', 'interrupted')),
    error_kind TEXT,                           -- transient, permanent, protocol, truncated, empty
    error TEXT,
    finish_reason TEXT,
    latency_ms REAL,
    tokens_in INTEGER,
    tokens_out INTEGER,
    tokens_source TEXT CHECK (tokens_source IN ('server', 'estimate')),
    cost_usd REAL                              -- None where no price is known
) STRICT;
CREATE INDEX llm_calls_by_request ON llm_calls (session_id, request_hash, status);

CREATE TABLE tool_calls (
    id INTEGER PRIMARY KEY,
    event_seq INTEGER NOT NULL REFERENCES events(seq),
    session_id TEXT NOT NULL REFERENCES sessions(id),
    round INTEGER,
    agent TEXT NOT NULL,
    call_id TEXT NOT NULL,                     -- the id the model gave the call
    name TEXT NOT NULL,
    arguments TEXT NOT NULL REFERENCES bodies(hash),   -- as sent by the model
    result TEXT REFERENCES bodies(hash),       -- as shown to the model
    status TEXT NOT NULL CHECK (status IN ('pending', 'ok', 'error', 'refused', 'interrupted')),
    evidence_id TEXT,                          -- E1, E2 ... where the result may be cited as evidence
    latency_ms REAL
) STRICT;
CREATE UNIQUE INDEX tool_calls_evidence ON tool_calls (session_id, evidence_id) WHERE evidence_id IS NOT NULL;

CREATE TABLE segments (                        -- every piece of training this session used
    session_id TEXT NOT NULL REFERENCES sessions(id),
    id TEXT NOT NULL,                          -- hash of the segment's inputs
    parent TEXT,                               -- segment id, None for a fresh learner
    shaping TEXT NOT NULL REFERENCES bodies(hash),     -- canonical JSON of the ShapingConfig
    seed INTEGER NOT NULL,
    env_steps INTEGER NOT NULL,
    start_env_steps INTEGER,                   -- position on its lineage
    end_env_steps INTEGER,
    status TEXT NOT NULL CHECK (status IN ('pending', 'ok', 'error')),
    reason TEXT,                               -- one sentence when it failed
    reused INTEGER,                            -- 1 when an earlier session had computed it
    wall_seconds REAL,
    trained INTEGER,                           -- env steps actually trained, where it failed on the way
    started_at TEXT NOT NULL,
    ended_at TEXT,
    PRIMARY KEY (session_id, id)
) STRICT;

CREATE TABLE main_run (                        -- the segments HEAD has pointed to, in order; never deleted
    id INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL,
    segment_id TEXT NOT NULL,
    round INTEGER,
    reason TEXT NOT NULL CHECK (reason IN ('stage', 'promote', 'keep', 'roll_back')),
    at TEXT NOT NULL,
    FOREIGN KEY (session_id, segment_id) REFERENCES segments(session_id, id)
) STRICT;

CREATE TABLE metrics (                         -- one row per update and metric
    session_id TEXT NOT NULL,
    segment_id TEXT NOT NULL,
    env_steps INTEGER NOT NULL,                -- position on the segment's lineage
    name TEXT NOT NULL,
    value REAL,                                -- NULL where the metric had no value
    PRIMARY KEY (session_id, segment_id, env_steps, name),
    FOREIGN KEY (session_id, segment_id) REFERENCES segments(session_id, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE evaluations (                     -- unshaped evaluation of a segment on held-out episodes
    id INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL,
    segment_id TEXT NOT NULL,
    episode_set TEXT NOT NULL CHECK (episode_set IN ('query', 'screen', 'confirm')),
    env_steps INTEGER NOT NULL,
    episodes INTEGER NOT NULL,
    sparse_return REAL NOT NULL,               -- mean over episodes
    progress REAL,                             -- mean over episodes, NULL where the task declares none
    detail TEXT NOT NULL REFERENCES bodies(hash),      -- {"sparse_returns": [...], "progress": [...] or null}
    UNIQUE (session_id, segment_id, episode_set, env_steps),
    FOREIGN KEY (session_id, segment_id) REFERENCES segments(session_id, id)
) STRICT;

CREATE TABLE diagnoses (
    id TEXT PRIMARY KEY,                       -- session id + /D + round
    session_id TEXT NOT NULL REFERENCES sessions(id),
    round INTEGER NOT NULL,
    event_seq INTEGER NOT NULL REFERENCES events(seq),
    stage TEXT NOT NULL,                       -- exploring, emerging, improving, plateau, regressing
    body TEXT NOT NULL REFERENCES bodies(hash)         -- JSON of the Diagnosis, with its evidence ids
) STRICT;

CREATE TABLE proposals (
    id TEXT PRIMARY KEY,                       -- session id + /P + round.refinement
    session_id TEXT NOT NULL REFERENCES sessions(id),
    round INTEGER NOT NULL,
    refinement INTEGER NOT NULL,
    diagnosis_id TEXT NOT NULL REFERENCES diagnoses(id),
    event_seq INTEGER NOT NULL REFERENCES events(seq),
    body TEXT NOT NULL REFERENCES bodies(hash)         -- JSON of the Proposal
) STRICT;

CREATE TABLE candidates (
    id TEXT PRIMARY KEY,                       -- proposal id + /name
    session_id TEXT NOT NULL REFERENCES sessions(id),
    proposal_id TEXT NOT NULL REFERENCES proposals(id),
    name TEXT NOT NULL,                        -- c1, c2 ...
    shaping TEXT NOT NULL REFERENCES bodies(hash),
    shaping_hash TEXT NOT NULL,
    rationale TEXT NOT NULL,
    forecast_metric TEXT NOT NULL,
    forecast_change REAL NOT NULL,
    forecast_probability REAL NOT NULL,
    UNIQUE (proposal_id, name)
) STRICT;

CREATE TABLE branches (                        -- one arm of a comparison: the same shaping on several seeds
    id TEXT PRIMARY KEY,                       -- session id + /B + number
    session_id TEXT NOT NULL REFERENCES sessions(id),
    round INTEGER NOT NULL,
    refinement INTEGER NOT NULL,
    purpose TEXT NOT NULL CHECK (purpose IN ('screen', 'confirm')),
    arm TEXT NOT NULL,                         -- 'control' or a candidate's name
    candidate_id TEXT REFERENCES candidates(id),
    event_seq INTEGER NOT NULL REFERENCES events(seq),
    UNIQUE (session_id, round, refinement, purpose, arm)
) STRICT;

CREATE TABLE branch_segments (
    branch_id TEXT NOT NULL REFERENCES branches(id),
    position INTEGER NOT NULL,                 -- index of the seed: pairs share it
    session_id TEXT NOT NULL,
    segment_id TEXT NOT NULL,
    PRIMARY KEY (branch_id, position),
    FOREIGN KEY (session_id, segment_id) REFERENCES segments(session_id, id)
) STRICT;

CREATE TABLE comparisons (                     -- a statistic over branches, recomputable from its evaluations
    id TEXT PRIMARY KEY,                       -- session id + /C + number
    session_id TEXT NOT NULL REFERENCES sessions(id),
    round INTEGER NOT NULL,
    refinement INTEGER NOT NULL,
    purpose TEXT NOT NULL CHECK (purpose IN ('screen', 'confirm', 'probation')),
    candidate_id TEXT REFERENCES candidates(id),       -- None for a screen over all candidates
    event_seq INTEGER NOT NULL REFERENCES events(seq),
    inputs TEXT NOT NULL REFERENCES bodies(hash),      -- arms -> segments, evaluations and measures per seed
    result TEXT NOT NULL REFERENCES bodies(hash),      -- JSON of ScreenResult, Verdict or ProbationVerdict
    settings TEXT NOT NULL REFERENCES bodies(hash),    -- JSON of the GateSettings
    code_version TEXT NOT NULL
) STRICT;

CREATE TABLE verdicts (
    id TEXT PRIMARY KEY,                       -- session id + /V + round.refinement
    session_id TEXT NOT NULL REFERENCES sessions(id),
    round INTEGER NOT NULL,
    refinement INTEGER NOT NULL,
    candidate_id TEXT REFERENCES candidates(id),
    comparison_id TEXT REFERENCES comparisons(id),     -- None when no comparison could be made
    event_seq INTEGER NOT NULL REFERENCES events(seq),
    outcome TEXT NOT NULL CHECK (outcome IN ('pass', 'fail', 'inconclusive')),
    rule TEXT,                                 -- what was judged: sparse_return or progress
    reason TEXT NOT NULL,                      -- the sentence computed by code
    reading TEXT NOT NULL                      -- the Validator's words
) STRICT;

CREATE TABLE decisions (
    id TEXT PRIMARY KEY,                       -- session id + /R + round
    number INTEGER NOT NULL,                   -- 1, 2 ... within the session
    session_id TEXT NOT NULL REFERENCES sessions(id),
    round INTEGER NOT NULL,
    event_seq INTEGER NOT NULL REFERENCES events(seq),
    action TEXT NOT NULL CHECK (action IN ('promote', 'keep', 'roll_back')),
    candidate_id TEXT REFERENCES candidates(id),
    verdict_id TEXT REFERENCES verdicts(id),
    comparison_id TEXT REFERENCES comparisons(id),     -- what a roll back rests on
    segment_from TEXT NOT NULL,                -- HEAD before
    segment_to TEXT NOT NULL,                  -- HEAD after
    shaping_from TEXT NOT NULL REFERENCES bodies(hash),
    shaping_to TEXT NOT NULL REFERENCES bodies(hash),
    decided_by TEXT NOT NULL,                  -- coordinator, human, or code
    reason TEXT NOT NULL,
    previous_hash TEXT NOT NULL,               -- hash of the decision before, '' for the first
    hash TEXT NOT NULL,                        -- SHA-256 over the row and previous_hash
    UNIQUE (session_id, number)
) STRICT;
"""

CONFIGURED_TASK = "$.run.task"
"""Where a configuration, ours or a stranger's, names the task that a resume would run."""

RECORDED = {
    "sessions": {
        "gate_mode": "TEXT",  # how confirmations are judged; None where nothing is
        "budget": "TEXT",  # JSON: the limits in force by name, as resumes have changed them; None where there are none
        # env steps of pieces that were lost with their workers: of the main run, of the twin
        "lost_main": "INTEGER NOT NULL DEFAULT 0",
        "lost_twin": "INTEGER NOT NULL DEFAULT 0",
    },
    # what it was first trained for; None for one that the session did not say it of
    "segments": {"purpose": "TEXT CHECK (purpose IN ('main', 'screen', 'confirm', 'twin'))"},
}
"""The columns of the second version, by table."""
RECORDED_SINCE = 2

FATES = """
CREATE TABLE fates (                           -- what became of a candidate; the last round's row holds
    candidate_id TEXT NOT NULL REFERENCES candidates(id),
    round INTEGER NOT NULL,                    -- at whose end it became so
    session_id TEXT NOT NULL REFERENCES sessions(id),
    fate TEXT NOT NULL CHECK (fate IN
        ('promoted', 'passed', 'failed', 'inconclusive', 'screened out', 'not compared', 'rolled back')),
    reason TEXT NOT NULL,                      -- one sentence
    PRIMARY KEY (candidate_id, round)
) STRICT;
CREATE INDEX fates_by_session ON fates (session_id);
"""
"""The table of the third version. Readers compute what it holds where it is missing."""

COSTS = {
    "sessions": {
        "cut_off": "INTEGER",  # env steps of branches and pieces that the end of a process cut off, as far as known
        "cut_off_unknown": "INTEGER",  # how many of these had trained nobody knows how much
    },
    "segments": {"evaluation_env_steps": "INTEGER"},  # played in its evaluations; None where it has no result
    # points at which its segment was evaluated or could have been: the later half is counted among them
    "evaluations": {"points": "INTEGER"},
}
"""The columns of the fourth version, by table; None in rows of earlier ones, which did not count."""
COSTS_SINCE = 4


def _of_json(text: str, path: str) -> str:
    return f"CASE WHEN json_valid({text}) THEN json_extract({text}, '{path}') END"


_CONFIG = "(SELECT body FROM bodies WHERE hash = sessions.config)"
_STATE = "(SELECT state FROM cursors WHERE session_id = sessions.id)"

SINCE_RECORDED = {
    "sessions": {
        "gate_mode": f"coalesce({_of_json(_CONFIG, '$.gate.mode')}, {_of_json(_CONFIG, '$.gate.rule')})",
        "budget": _of_json(_STATE, "$.budget"),
        "lost_main": f"coalesce({_of_json(_STATE, '$.lost.main')}, 0)",
        "lost_twin": f"coalesce({_of_json(_STATE, '$.lost.twin')}, 0)",
    },
    "segments": {
        "purpose": "(SELECT CASE WHEN phase IN ('main', 'screen', 'confirm', 'twin') THEN phase END FROM events "
        "WHERE events.session_id = segments.session_id AND kind = 'segment' AND ref_table = 'segments' "
        "AND ref_id = segments.id ORDER BY seq LIMIT 1)"
    },
}
"""What those columns hold for rows of the first version, as SQL over its tables: how that one stored them."""
