"""The numbered migrations of the ledger: tables, indexes, append-only triggers, full-text search.

A migration that has shipped is never edited; the next change is a new function below the last. From the tenth on it
leaves the rows that are there as they are, and new columns are NULL in them: a chain covers these rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from sqlite_utils import Database, Migrations

from learning_signal.ledger.additions import (
    CLAIMS,
    HASHES,
    LINKS,
    PACKED_EVALUATIONS,
    PACKED_METRICS,
    REASONS,
    REMARKS,
    TOKENS,
)
from learning_signal.ledger.chain.links import everything, write_links
from learning_signal.ledger.chain.places import places
from learning_signal.ledger.changes import (
    APPEND_ONLY,
    APPEND_ONLY_SINCE,
    COMPLETED_LATER,
    OF_COSTS,
    OF_FIRST,
    OF_HASHES,
    OF_RECORDED,
    OF_TOKENS,
    Changes,
)
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.packing import add_functions
from learning_signal.ledger.schema import APPLICATION_ID, COSTS, FATES, FIRST, RECORDED, SINCE_RECORDED, VERSION

CONFIRMATIONS = """
CREATE TABLE new_branches (                    -- one arm of a comparison: the same shaping on several seeds
    id TEXT PRIMARY KEY,                       -- session id + /B + number
    session_id TEXT NOT NULL REFERENCES sessions(id),
    round INTEGER NOT NULL,
    refinement INTEGER NOT NULL,
    purpose TEXT NOT NULL CHECK (purpose IN ('screen', 'confirm')),
    arm TEXT NOT NULL,                         -- 'control' (one of every confirmation) or a candidate's name
    candidate_id TEXT REFERENCES candidates(id),
    event_seq INTEGER NOT NULL REFERENCES events(seq)
) STRICT;
CREATE TABLE new_branch_segments (
    branch_id TEXT NOT NULL REFERENCES new_branches(id),
    position INTEGER NOT NULL,                 -- index of the seed: pairs share it
    session_id TEXT NOT NULL,
    segment_id TEXT NOT NULL,
    PRIMARY KEY (branch_id, position),
    FOREIGN KEY (session_id, segment_id) REFERENCES segments(session_id, id)
) STRICT;
INSERT INTO new_branches SELECT * FROM branches ORDER BY rowid;
INSERT INTO new_branch_segments SELECT * FROM branch_segments ORDER BY rowid;
DROP TABLE branch_segments;
DROP TABLE branches;
ALTER TABLE new_branches RENAME TO branches;
ALTER TABLE new_branch_segments RENAME TO branch_segments;
CREATE INDEX branches_by_round ON branches (session_id, round);
CREATE INDEX branch_segments_by_segment ON branch_segments (session_id, segment_id);
"""
"""Makes the two tables anew for the fifth version: until then a refinement had one control to confirm against."""

REPORTED = """
CREATE TABLE new_evaluations (                 -- unshaped evaluation of a segment on held-out episodes
    id INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL,
    segment_id TEXT NOT NULL,
    episode_set TEXT NOT NULL CHECK (episode_set IN ('query', 'screen', 'confirm', 'report')),
    env_steps INTEGER NOT NULL,
    episodes INTEGER NOT NULL,
    sparse_return REAL NOT NULL,               -- mean over episodes
    progress REAL,                             -- mean over episodes, NULL where the task declares none
    detail TEXT NOT NULL REFERENCES bodies(hash),      -- {"sparse_returns": [...], "progress": [...] or null}
    points INTEGER,                            -- of its segment: the later half is counted among them
    UNIQUE (session_id, segment_id, episode_set, env_steps),
    FOREIGN KEY (session_id, segment_id) REFERENCES segments(session_id, id)
) STRICT;
INSERT INTO new_evaluations (id, session_id, segment_id, episode_set, env_steps, episodes, sparse_return, progress,
    detail, points)
    SELECT id, session_id, segment_id, episode_set, env_steps, episodes, sparse_return, progress, detail, points
    FROM evaluations ORDER BY id;
DROP TABLE evaluations;
ALTER TABLE new_evaluations RENAME TO evaluations;
"""
"""Makes the table anew for the sixth version: until then no set of episodes was for reporting alone."""

INDEXES = (
    "CREATE INDEX sessions_by_start ON sessions (started_at)",
    "CREATE INDEX messages_by_event ON messages (event_seq)",
    "CREATE INDEX messages_by_body ON messages (body)",
    "CREATE INDEX llm_calls_by_event ON llm_calls (event_seq)",
    "CREATE INDEX llm_calls_by_reply ON llm_calls (reply)",
    "CREATE INDEX tool_calls_by_event ON tool_calls (event_seq)",
    "CREATE INDEX tool_calls_by_arguments ON tool_calls (arguments)",
    "CREATE INDEX tool_calls_by_result ON tool_calls (result)",
    "CREATE INDEX main_run_by_session ON main_run (session_id, id)",
    "CREATE INDEX diagnoses_by_round ON diagnoses (session_id, round)",
    "CREATE INDEX proposals_by_round ON proposals (session_id, round)",
    "CREATE INDEX branch_segments_by_segment ON branch_segments (session_id, segment_id)",
    "CREATE INDEX comparisons_by_round ON comparisons (session_id, round)",
    "CREATE INDEX verdicts_by_round ON verdicts (session_id, round)",
)

# '_' belongs to feature names. '.' and '-' do not join tokens: "distance." at the end of a sentence is
# "distance". porter finds "landmarks" for "landmark".
FULL_TEXT = (
    "CREATE VIRTUAL TABLE bodies_text USING fts5"
    "(body, content='bodies', content_rowid='id', tokenize=\"porter unicode61 tokenchars '_'\")",
    "CREATE TRIGGER searchable_bodies_index AFTER INSERT ON searchable_bodies BEGIN "
    "INSERT INTO bodies_text (rowid, body) SELECT id, body FROM bodies WHERE id = NEW.id; END",
)

migrations = Migrations("ledger")


@migrations()
def m001_first(db: Database) -> None:
    """Everything the first version had."""
    # Not executescript: sqlite3's commits, and sqlite-utils' takes 100 ms for this text.
    for statement in (*_statements(FIRST), *INDEXES, *FULL_TEXT):
        db.execute(statement)
    for table in (*APPEND_ONLY, *COMPLETED_LATER, "sessions", "cursors"):
        for statement in _guards(db, table, OF_FIRST).values():
            db.execute(statement)


@migrations()
def m002_recorded(db: Database) -> None:
    """What readers took from configurations, cursors and events has columns of its own, filled for old rows."""
    for table, columns in RECORDED.items():
        _add_columns(db, table, columns, OF_FIRST, OF_RECORDED, SINCE_RECORDED[table])


@migrations()
def m003_fates(db: Database) -> None:
    """What became of each candidate has a table; the fates in older rows are computed by the reader."""
    for statement in (*_statements(FATES), *_guards(db, "fates", OF_RECORDED).values()):
        db.execute(statement)


@migrations()
def m004_costs(db: Database) -> None:
    """Evaluation is counted, and what the end of a process cut off; in older rows both are unknown."""
    for table, columns in COSTS.items():
        _add_columns(db, table, columns, OF_RECORDED, OF_COSTS, {})


@migrations()
def m005_confirmations(db: Database) -> None:
    """Several candidates of one proposal may be confirmed, each against a control of its own."""
    tables = ("branches", "branch_segments")
    for table in tables:
        _drop_guards(db, table, OF_COSTS)
    for statement in _statements(CONFIRMATIONS):
        db.execute(statement)
    for table in tables:
        for statement in _guards(db, table, OF_COSTS).values():
            db.execute(statement)


@migrations()
def m006_reported(db: Database) -> None:
    """What is reported may be measured on episodes that nothing selects by; older rows have none."""
    _drop_guards(db, "evaluations", OF_COSTS)
    for statement in (*_statements(REPORTED), *_guards(db, "evaluations", OF_COSTS).values()):
        db.execute(statement)


@migrations()
def m007_additions(db: Database) -> None:
    """Claims are checked, candidates get remarks, and branches say why they were chosen; older rows have none of it."""
    for statement in (*_statements(CLAIMS), *_guards(db, "claims", OF_COSTS).values()):
        db.execute(statement)
    for statement in (*_statements(REMARKS), *_guards(db, "remarks", OF_COSTS).values()):
        db.execute(statement)
    for table, columns in REASONS.items():
        _add_columns(db, table, columns, OF_COSTS, OF_COSTS, {})


@migrations()
def m008_tokens(db: Database) -> None:
    """Tokens from a cache and of reasoning are kept apart; older rows do not say."""
    for table, columns in TOKENS.items():
        _add_columns(db, table, columns, OF_COSTS, OF_TOKENS, {})


@migrations()
def m009_chains(db: Database) -> None:
    """Metrics and episodes are packed, and every session has a chain over its rows, which begins with those it has."""
    add_functions(db.conn)
    _drop_guards(db, "bodies", OF_TOKENS)
    _drop_guards(db, "evaluations", OF_TOKENS)
    _drop_guards(db, "metrics", OF_TOKENS)
    for statement in _statements(PACKED_EVALUATIONS + PACKED_METRICS + LINKS):
        db.execute(statement)
    for table in ("bodies", "evaluations", "packed_metrics", "links"):
        for statement in _guards(db, table, OF_TOKENS).values():
            db.execute(statement)
    places_now = places({table.name: table.columns_dict for table in db.tables})
    # Rows without a session go into the first chain; with no session there are none.
    write_links(db.execute, places_now, everything(db.execute, places_now), first=[["version", 8]])


@migrations()
def m010_hashes(db: Database) -> None:
    """What a segment left in files has its hash; older rows do not say."""
    for table, columns in HASHES.items():
        _add_columns(db, table, columns, OF_TOKENS, OF_HASHES, {})


def apply(db: Database) -> None:
    """Bring ``db`` to the newest version, in one transaction; nothing happens when it is there already."""
    apply_up_to(db, VERSION)


def apply_up_to(db: Database, version: int) -> None:
    """Bring ``db`` to this version, in one transaction."""
    later = [each.name for each in migrations.pending(db)][version - VERSION :] if version < VERSION else []
    # BEGIN IMMEDIATE: of two processes that create the same ledger, the second waits and then finds it done.
    db.conn.execute("BEGIN IMMEDIATE")
    try:
        migrations.apply(db, stop_before=later)
        db.conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.conn.execute(f"PRAGMA user_version = {version}")
        db.conn.execute("COMMIT")
    except BaseException:
        db.rollback()
        raise


def _statements(script: str) -> list[str]:
    """The statements of a script in which each ends at the end of a line."""
    statements, lines = [], []
    for line in script.splitlines():
        lines.append(line)
        if line.endswith(";") or line.split("--")[0].rstrip().endswith(";"):
            statements.append("\n".join(lines))
            lines = []
    return statements


def _add_columns(
    db: Database, table: str, columns: Mapping[str, str], before: Changes, after: Changes, values: Mapping[str, str]
) -> None:
    """Add columns by name and declaration, with ``values`` (SQL) in the rows that are there, and guard them.

    ``before`` and ``after`` say what may be set later without and with them. Raises ``LedgerError`` where a guard is
    missing.
    """
    _drop_guards(db, table, before)
    for name, declaration in columns.items():
        db.execute(f"ALTER TABLE {table} ADD COLUMN {name} {declaration}")
    if values:
        db.execute(f"UPDATE {table} SET {', '.join(f'{name} = {value}' for name, value in values.items())}")
    for statement in _guards(db, table, after).values():
        db.execute(statement)


def _drop_guards(db: Database, table: str, changes: Changes) -> None:
    """Drop the guards of a table that a migration changes; ``LedgerError`` where one is missing."""
    stored = db.triggers_dict
    for name, sql in _guards(db, table, changes).items():
        if stored.get(name) != sql:
            raise LedgerError(
                f"The trigger {name} of this ledger is missing or changed, so rows could have been rewritten, and "
                "a migration would hide that; see what 'log verify' finds, and write to another ledger."
            )
        db.execute(f"DROP TRIGGER {name}")


def _guards(db: Database, table: str, changes: Changes) -> dict[str, str]:
    """The triggers, by name, that refuse to change or delete what is final in ``table``."""
    conditions = {f"{table}_no_delete": ("DELETE", "", f"{table} rows are never deleted")}
    if table in (*APPEND_ONLY, *APPEND_ONLY_SINCE):
        conditions[f"{table}_no_update"] = ("UPDATE", "", f"{table} rows are final")
    open_columns = changes.get(table)
    if open_columns is not None:
        fixed = ", ".join(column.name for column in db.table(table).columns if column.name not in open_columns)
        message = f"{table}: only {', '.join(open_columns)} may be set later"
        conditions[f"{table}_fixed"] = (f"UPDATE OF {fixed}", "", message)
    if table in COMPLETED_LATER:
        when = "WHEN OLD.status <> 'pending' OR NEW.status = 'pending' "
        conditions[f"{table}_final"] = ("UPDATE", when, f"this row of {table} is final, or would stay pending")
    if table == "sessions":
        conditions["sessions_final"] = ("UPDATE", "WHEN OLD.status = 'done' ", "this session is done")
    return {
        name: f"CREATE TRIGGER {name} BEFORE {event} ON {table} {when}BEGIN SELECT RAISE(ABORT, '{message}'); END"
        for name, (event, when, message) in conditions.items()
    }


def expected_migrations(schema_version: int) -> list[str]:
    """The names of the migrations that a ledger of this version has had, in their order."""
    db = Database(memory=True)
    try:
        return [migration.name for migration in migrations.pending(db)][:schema_version]
    finally:
        db.close()


@cache
def expected_triggers(schema_version: int) -> dict[str, str]:
    """The name and SQL of every trigger that a ledger of this version has."""
    db = Database(memory=True)
    try:
        later = [migration.name for migration in migrations.pending(db)][schema_version:]
        migrations.apply(db, stop_before=later)
        return db.triggers_dict
    finally:
        db.close()
