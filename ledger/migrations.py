"""The numbered migrations of the ledger: tables, indexes, append-only triggers, full-text search.

A migration that has shipped is never edited; the next change is a new function below the last.
"""

from __future__ import annotations

from functools import cache

from sqlite_utils import Database, Migrations

from learning_signal.ledger.schema import APPLICATION_ID, FIRST

APPEND_ONLY = (
    "bodies",
    "searchable_bodies",
    "agents",
    "messages",
    "main_run",
    "metrics",
    "evaluations",
    "diagnoses",
    "proposals",
    "candidates",
    "branches",
    "branch_segments",
    "comparisons",
    "verdicts",
    "decisions",
)

COMPLETED_LATER = {
    "events": ("status", "title", "ref_table", "ref_id", "ended_at"),
    "llm_calls": (
        "model_served",
        "reply",
        "status",
        "error_kind",
        "error",
        "finish_reason",
        "latency_ms",
        "tokens_in",
        "tokens_out",
        "tokens_source",
        "cost_usd",
    ),
    "tool_calls": ("result", "status", "evidence_id", "latency_ms"),
    "segments": (
        "start_env_steps",
        "end_env_steps",
        "status",
        "reason",
        "reused",
        "wall_seconds",
        "trained",
        "ended_at",
    ),
}
"""Tables whose rows are written pending and completed once, with the columns that completion may set."""

SESSION_CHANGES = (
    "status",
    "stop_reason",
    "code_version",
    "host",
    "pid",
    "run_token",
    "heartbeat_at",
    "ended_at",
    "wall_seconds",
)
"""Columns of a session that may change until it is done."""

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
    for statement in _guards(db):
        db.execute(statement)


def version() -> int:
    """The newest schema version this program knows; stored as ``PRAGMA user_version``."""
    return len(migrations._migrations)


def apply(db: Database) -> None:
    """Bring ``db`` to the newest version, in one transaction; nothing happens when it is there already."""
    # BEGIN IMMEDIATE: of two processes that create the same ledger, the second waits and then finds it done.
    db.conn.execute("BEGIN IMMEDIATE")
    try:
        migrations.apply(db)
        db.conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.conn.execute(f"PRAGMA user_version = {version()}")
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


def _guards(db: Database) -> list[str]:
    """The triggers that refuse to change or delete what is final."""
    refuse = "BEGIN SELECT RAISE(ABORT, '{}'); END"
    statements = []
    for table in (*APPEND_ONLY, *COMPLETED_LATER, "sessions", "cursors"):
        message = f"{table} rows are never deleted"
        statements.append(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse.format(message)}")
    for table in APPEND_ONLY:
        message = f"{table} rows are final"
        statements.append(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse.format(message)}")
    for table, open_columns in (*COMPLETED_LATER.items(), ("sessions", SESSION_CHANGES)):
        fixed = ", ".join(column.name for column in db.table(table).columns if column.name not in open_columns)
        message = f"{table}: only {', '.join(open_columns)} may be set later"
        statements.append(f"CREATE TRIGGER {table}_fixed BEFORE UPDATE OF {fixed} ON {table} {refuse.format(message)}")
    for table in COMPLETED_LATER:
        message = f"this row of {table} is final, or would stay pending"
        when = "WHEN OLD.status <> 'pending' OR NEW.status = 'pending'"
        statements.append(f"CREATE TRIGGER {table}_final BEFORE UPDATE ON {table} {when} {refuse.format(message)}")
    statements.append(
        "CREATE TRIGGER sessions_final BEFORE UPDATE ON sessions WHEN OLD.status = 'done' "
        + refuse.format("this session is done")
    )
    return statements


@cache
def expected_triggers() -> dict[str, str]:
    """The name and SQL of every trigger that a ledger of the newest version has."""
    db = Database(memory=True)
    try:
        apply(db)
        return db.triggers_dict
    finally:
        db.close()
