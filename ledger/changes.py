"""Which rows of the ledger are final, and which columns may be set later; the triggers and the chain keep to it."""

from __future__ import annotations

from collections.abc import Mapping

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
APPEND_ONLY_SINCE = ("fates", "claims", "remarks", "packed_metrics", "links")
"""The same of tables that later versions added."""

FIRST_SEGMENT_CHANGES = (
    "start_env_steps",
    "end_env_steps",
    "status",
    "reason",
    "reused",
    "wall_seconds",
    "trained",
    "ended_at",
)
COUNTED_SEGMENT_CHANGES = (*FIRST_SEGMENT_CHANGES, "evaluation_env_steps")
FIRST_CALL_CHANGES = (
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
)
COMPLETED_LATER = {
    "events": ("status", "title", "ref_table", "ref_id", "ended_at"),
    "llm_calls": (*FIRST_CALL_CHANGES, "tokens_cached", "tokens_cache_written", "tokens_reasoning"),
    "tool_calls": ("result", "status", "evidence_id", "latency_ms"),
    "segments": (*COUNTED_SEGMENT_CHANGES, "checkpoint", "policy"),
}
"""Tables whose rows are written pending and completed once, with the columns that completion may set."""

FIRST_SESSION_CHANGES = (
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
RECORDED_SESSION_CHANGES = (*FIRST_SESSION_CHANGES, "budget", "lost_main", "lost_twin")
"""Columns of a session that may change until it is done, in the first and in the second version."""

Changes = Mapping[str, tuple[str, ...]]
"""By table, the columns that may be set later."""
OF_FIRST: Changes = COMPLETED_LATER | {
    "llm_calls": FIRST_CALL_CHANGES,
    "segments": FIRST_SEGMENT_CHANGES,
    "sessions": FIRST_SESSION_CHANGES,
}
OF_RECORDED: Changes = {**OF_FIRST, "sessions": RECORDED_SESSION_CHANGES}
OF_COSTS: Changes = COMPLETED_LATER | {
    "llm_calls": FIRST_CALL_CHANGES,
    "segments": COUNTED_SEGMENT_CHANGES,
    "sessions": (*RECORDED_SESSION_CHANGES, "cut_off", "cut_off_unknown"),
}
OF_TOKENS: Changes = {**OF_COSTS, "llm_calls": COMPLETED_LATER["llm_calls"]}
OF_HASHES: Changes = {**OF_TOKENS, "segments": COMPLETED_LATER["segments"]}

FINAL = (*(table for table in APPEND_ONLY if table != "metrics"), *APPEND_ONLY_SINCE)
"""The tables of the newest version whose rows are final; metrics are packed in it."""
NEWEST = OF_HASHES
"""What may be set later in a ledger of the newest version."""
