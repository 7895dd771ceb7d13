"""The outcome of a session: the files it leaves behind, and the report on it."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from learning_signal.agents.session.troubles import never_worked
from learning_signal.ledger.read.costs import known_sum
from learning_signal.ledger.read.decision.explain import troubles_of
from learning_signal.ledger.read.forecasts import forecasts_of, records_of
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.wording import shaping_text
from learning_signal.marl.errors import SegmentFailed
from learning_signal.marl.paths import inside
from learning_signal.marl.segments.late import complete
from learning_signal.marl.segments.segment import SegmentStore
from learning_signal.marl.settings import RunSettings
from learning_signal.tools.plan.settings import SessionSettings
from learning_signal.tools.spending import spent_of
from learning_signal.tools.state import Head, SessionState

POLICY, SHAPING = "policy.pt", "shaping.toml"


@dataclass(frozen=True)
class SessionOutcome:
    """The end (or pause) of a session, as plain data."""

    session_id: str
    status: str
    """done, paused, interrupted or failed."""
    stop_reason: str | None
    promoted: list[dict[str, Any]]
    """round, candidate, shaping_text, outcome, reason of each promotion."""
    rejected: list[dict[str, Any]]
    """The same of every candidate that was tested and not promoted, and of promotions that were rolled back."""
    before: dict[str, Any] | None
    """HEAD at the first deliberation: env_steps, sparse_return, progress, episodes, and episode_set: report, which
    nothing selects by, or confirm in what an earlier version trained, or where a stop came before it was played. None
    before the first stage."""
    after: dict[str, Any] | None
    """HEAD now, with total_env_steps: everything the session trained, branches included, and evaluation_env_steps: what
    evaluations played beside it, as far as known (None: nothing is).
    """
    twin: dict[str, Any] | None
    """The sparse twin after as many env steps of training, or None where none was trained."""
    costs: dict[str, Any]
    """Tokens by role and every other field of ``ledger.read.costs.Costs``."""
    budget: dict[str, dict[str, float]]
    """Of each limit: spent and limit, in env steps, tokens, seconds and USD. Empty where nothing is limited."""
    forecasts: list[dict[str, Any]]
    """Each ``ledger.read.forecasts.ForecastRecord``: how well an agent on a backend has forecast."""
    troubles: list[dict[str, Any]]
    """round, role, kind (error, or fallback where another backend took over) and text of every time an agent gave up or
    its backend failed."""
    never_worked: list[dict[str, str]]
    """role and backend of those in trouble that never had a submission accepted."""
    budget_needed: str | None
    """A sufficient budget, as ``--budget`` takes it, if the present one is used up."""
    seal: str | None
    """Of everything that the session wrote, see ``ledger.chain.seal``."""
    final_policy: str | None
    final_shaping: str | None
    ledger: str

    def to_dict(self) -> dict[str, Any]:
        """The outcome as JSON data."""
        return asdict(self)


def outcome_of(
    settings: SessionSettings, ledger: Path, session: str, state: SessionState, budget_needed: str | None = None
) -> SessionOutcome:
    """The outcome of a session, from its ledger and its state."""
    with Reader.open(ledger) as reader:
        row, costs, decisions = reader.session(session), reader.costs(session), reader.decisions(session)
        segments = reader.segments(session).values()
        forecasts = records_of(forecasts_of(reader, session))
        troubles, failed = troubles_of(reader, session), never_worked(reader, session)
    store = SegmentStore(settings.store)
    folder = inside(ledger.parent, session)
    total = state.twin_steps or costs.env_steps_main + costs.env_steps_branches + costs.env_steps_reused
    spent = spent_of(costs)
    of_twin, played = (
        known_sum(each.evaluation_env_steps for each in segments if (each.purpose == "twin") == twin)
        for twin in (True, False)
    )
    after, twin = (_measured(store, settings.run, head) for head in (state.head, state.twin))
    taken = {decision.round: decision for decision in decisions}
    promoted, rejected = [], []
    for tried in state.tried:
        entry = {
            "round": tried.round,
            "candidate": tried.candidate,
            "shaping_text": shaping_text(tried.shaping.canonical()),
            "outcome": tried.outcome,
            "reason": tried.reason,
        }
        decision = taken.get(tried.round)
        if tried.outcome == "promoted":
            promoted.append(entry)
        elif tried.outcome != "passed":
            rejected.append(entry)
        elif decision is not None:  # stopped between the verdict and the decision, it is neither yet
            rejected.append(entry | {"reason": decision.reason})
    return SessionOutcome(
        session_id=session,
        status=row.status,
        stop_reason=row.stop_reason,
        promoted=promoted,
        rejected=rejected,
        before=_measured(store, settings.run, state.before),
        after=after and after | {"total_env_steps": total, "evaluation_env_steps": played},
        twin=twin and twin | {"evaluation_env_steps": of_twin},
        costs={name: value for name, value in asdict(costs).items() if name != "agents"}
        | {
            "tokens_in": {role: agent.tokens_in for role, agent in costs.agents.items()},
            "tokens_out": {role: agent.tokens_out for role, agent in costs.agents.items()},
        },
        budget={name: {"spent": spent[name], "limit": limit} for name, limit in state.budget.limits().items()},
        forecasts=[asdict(each) for each in forecasts],
        troubles=[
            {"round": each.round, "role": each.agent, "kind": each.kind, "text": each.title} for each in troubles
        ],
        never_worked=[{"role": role, "backend": backend} for role, backend in failed],
        budget_needed=budget_needed,
        seal=row.seal,
        final_policy=_existing(folder / POLICY),
        final_shaping=_existing(folder / SHAPING),
        ledger=str(ledger),
    )


def write_products(folder: Path, store: SegmentStore, head: Head) -> None:
    """Leave HEAD's checkpoint and shaping in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = inside(folder, POLICY + ".partial")
    shutil.copyfile(store.checkpoint_path(head.segment), partial)
    os.replace(partial, folder / POLICY)
    inside(folder, SHAPING).write_text(head.shaping.to_toml(), encoding="utf-8")


def _measured(store: SegmentStore, run: RunSettings, head: Head | None) -> dict[str, Any] | None:
    """A head on the report episodes; on the confirm episodes where an earlier version trained it, or where the session
    was stopped before they were played.
    """
    if head is None:
        return None
    try:
        evaluation = complete(store, run, head.segment).reported
    except SegmentFailed:  # the store is gone: what it held is unknown, not 0
        return None
    return {
        "env_steps": head.env_steps,
        "sparse_return": evaluation.sparse_return,
        "progress": evaluation.mean_progress,
        "episodes": len(evaluation.sparse_returns),
        "episode_set": evaluation.set,
    }


def _existing(path: Path) -> str | None:
    return str(path) if path.exists() else None
