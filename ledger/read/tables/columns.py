"""The columns of every table that a log is given out as: their types, units and meaning."""

from __future__ import annotations

from learning_signal.ledger.errors import LedgerError

WHOSE: dict[str, tuple[type, str]] = {
    "session": (str, "id of the session"),
    "task": (str, "its task"),
    "algorithm": (str, "its algorithm"),
    "seed": (int, "its seed"),
}
"""The first columns of every table, so that tables of several sessions can be grouped."""

TABLES: dict[str, dict[str, tuple[type, str]]] = {
    "sessions": WHOSE
    | {
        "kind": (str, "run (with agents) or training"),
        "status": (str, "done, paused, failed, running, interrupted ..."),
        "gate": (str, "how confirmations are judged"),
        "started_at": (str, "UTC, ISO 8601"),
        "ended_at": (str, "UTC, ISO 8601"),
        "wall_seconds": (float, "seconds, summed over interruptions"),
        "rounds": (int, "rounds begun"),
        "promoted": (int, "decisions"),
        "kept": (int, "decisions"),
        "rolled_back": (int, "decisions"),
        "env_steps_main": (int, "env steps of training, of the main run"),
        "env_steps_branches": (int, "env steps of training, of branches"),
        "env_steps_twin": (int, "env steps of training, of the sparse twin"),
        "env_steps_reused": (int, "env steps that an earlier session had trained, in none of the above"),
        "evaluation_env_steps": (int, "env steps played in evaluations"),
        "tokens_in": (int, "tokens of all model calls"),
        "tokens_out": (int, "tokens of all model calls"),
        "cost_usd": (float, "USD; missing where a price is not known"),
    },
    "events": WHOSE
    | {
        "event": (int, "number in the log, as log show prints it"),
        "round": (int, "round, from 1"),
        "phase": (str, "critic, generator, validator, coordinator; else stage, report, main, screen ..."),
        "agent": (str, "role that acted, human; missing where code did"),
        "kind": (str, "message, llm_call, tool_call, segment, comparison, verdict, decision ..."),
        "status": (str, "ok, pending, error, refused, interrupted"),
        "title": (str, "one line"),
        "started_at": (str, "UTC, ISO 8601"),
        "ended_at": (str, "UTC, ISO 8601"),
        "tool": (str, "of a tool call: its tool"),
        "evidence": (str, "of a tool call: the id under which it may be cited"),
        "backend": (str, "of a model call: the spec of its backend"),
        "model": (str, "of a model call: as served, or as requested where the server did not say"),
        "latency_ms": (float, "of a model or tool call: milliseconds"),
        "tokens_in": (int, "of a model call: tokens"),
        "tokens_out": (int, "of a model call: tokens"),
        "cost_usd": (float, "of a model call: USD; missing where the price is not known"),
    },
    "decisions": WHOSE
    | {
        "round": (int, "round, from 1"),
        "event": (int, "number of its event"),
        "at": (str, "UTC, ISO 8601"),
        "action": (str, "promote, keep or roll_back"),
        "candidate": (str, "id of the candidate, where it is about one"),
        "decided_by": (str, "coordinator, human or code"),
        "reason": (str, "in the words of who decided"),
        "verdict": (str, "pass, fail or inconclusive, as computed"),
        "measure": (str, "sparse_return or progress: what was judged"),
        "difference": (
            float,
            "candidate minus control in that measure, mean over branches; of a roll back: after minus before",
        ),
        "low": (float, "lower end of its interval, in that measure"),
        "high": (float, "upper end of its interval, in that measure"),
        "p": (float, "p-value of the test"),
        "level": (float, "what p had to stay below"),
        "shaping_before": (str, "formula of the shaping in force before"),
        "shaping_after": (str, "formula of the shaping in force after"),
        "segment_before": (str, "HEAD before"),
        "segment_after": (str, "HEAD after"),
    },
    "evaluations": WHOSE
    | {
        "segment": (str, "id of the segment that was evaluated"),
        "purpose": (str, "what it was first trained for: main, screen, confirm, twin"),
        "head": (bool, "whether HEAD rests on it at the end"),
        "episode_set": (str, "query, screen, confirm or report"),
        "env_steps": (int, "env steps of training on its lineage"),
        "episodes": (int, "episodes played"),
        "sparse_return": (float, "mean over episodes, unshaped"),
        "progress": (float, "mean over episodes, 0 to 1; missing where the task declares none"),
    },
    "segments": WHOSE
    | {
        "segment": (str, "id"),
        "parent": (str, "id of the segment it goes on from; missing for a fresh learner"),
        "purpose": (str, "what it was first trained for: main, screen, confirm, twin"),
        "status": (str, "ok, error, pending"),
        "reason": (str, "why it failed"),
        "reused": (bool, "whether an earlier session had trained it"),
        "segment_seed": (int, "seed"),
        "shaping": (str, "formula of the shaping"),
        "env_steps": (int, "env steps of training"),
        "begin": (int, "env steps on its lineage where it begins"),
        "end": (int, "env steps on its lineage where it ends"),
        "evaluation_env_steps": (int, "env steps played in its evaluations"),
        "wall_seconds": (float, "seconds"),
        "started_at": (str, "UTC, ISO 8601"),
        "ended_at": (str, "UTC, ISO 8601"),
    },
    "curves": WHOSE
    | {
        "measure": (str, "sparse_return or progress"),
        "episode_set": (str, "the episodes it is measured on: report, or confirm in a training run"),
        "total_env_steps": (int, "env steps of training so far, branches included, the twin not"),
        "value": (float, "of HEAD at that time, mean over episodes"),
    },
}
"""Table -> column -> type, and meaning with unit. Every value is of its type, or None where it is missing."""


def columns(name: str) -> dict[str, tuple[type, str]]:
    """The columns of a table in their order; ``LedgerError`` where there is no such table."""
    if name not in TABLES:
        raise LedgerError(f"There is no table {name!r}; the tables are {', '.join(TABLES)}.")
    return TABLES[name]
