"""Two sessions side by side: what they ran on, round by round, and their candidates branch by branch where those pair.

The seeds of a confirmation are derived from the session's seed, the round and the place in it. So two sessions of one
task, seed and configuration train their candidates from the same checkpoint on the same seeds and the same held-out
episodes, as long as their main runs are the same; what then differs between two branches is the shaping alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.across.order import median_interval
from learning_signal.ledger.read.forecasts import measured
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import ComparisonRow
from learning_signal.ledger.read.training import SegmentRow

NAMES = ("first", "second")
MEASURES = ("sparse_return", "progress")
NOT_COMPARED = frozenset(
    {"agents", "agent_sources", "shadows", "ledger", "store", "workers", "executor", "prices", "budget"}
)
"""Settings that do not decide what is trained from where."""


@dataclass(frozen=True)
class Side:
    """One of the two sessions."""

    session: str
    task: str
    algorithm: str
    seed: int
    status: str
    backends: dict[str, str]
    """The last spec of each role."""
    sparse_return: float | None
    """Of HEAD, on ``episode_set``; None where it was not evaluated."""
    progress: float | None
    episode_set: str | None
    env_steps: int
    """Of HEAD."""
    total_env_steps: int
    """Of training, branches, reused segments and the sparse twin included."""
    evaluation_env_steps: int | None
    tokens_in: int | None
    tokens_out: int | None
    cost_usd: float | None
    wall_seconds: float


@dataclass(frozen=True)
class RoundSide:
    """What one session did in a round."""

    action: str
    candidate: str | None
    """The candidate that was confirmed last; None where none was."""
    outcome: str | None
    """Of the verdict that was last in the round."""
    gains: dict[str, float | None]
    """Of that candidate over its own control, by measure; empty where none was confirmed."""


@dataclass(frozen=True)
class Difference:
    """First minus second in one measure, pair by pair."""

    values: tuple[float, ...]
    mean: float
    above: int
    """Pairs in which the first is higher."""
    low: float
    high: float
    """Two of the values, between which the median difference lies with the probability ``level``."""
    level: float
    conclusion: str
    """What may be concluded, in one sentence."""


@dataclass(frozen=True)
class Paired:
    """A candidate of each session, confirmed from the same checkpoint on the same seeds."""

    round: int
    first: str
    second: str
    same_shaping: bool
    branches: tuple[int, int]
    """How many each was confirmed with; the shorter ones are the pairs."""
    n: int
    differences: dict[str, Difference]
    """By measure; those in which every branch has a value."""


@dataclass(frozen=True)
class RoundPair:
    """A round of both sessions; a side is None where it did not get that far."""

    round: int
    first: RoundSide | None
    second: RoundSide | None
    paired: tuple[Paired, ...]
    why_not: str | None
    """Why nothing of it pairs; None where something does."""


@dataclass(frozen=True)
class SessionComparison:
    """Two sessions side by side."""

    first: Side
    second: Side
    settings: dict[str, tuple[Any, Any]]
    """The settings that differ, by their place, of those that decide what is trained."""
    rounds: tuple[RoundPair, ...]


@dataclass(frozen=True)
class _Confirmed:
    """A candidate that was confirmed, and its branches by what they share with those of another session."""

    row: ComparisonRow
    name: str
    shaping: Mapping[str, Any] | None
    parents: frozenset[str | None]
    branches: dict[tuple[str | None, int, int], Mapping[str, Any]]
    """(parent, seed, env steps) -> where the measures came from."""


def compare_sessions(reader: Reader, first: str, second: str) -> SessionComparison:
    """The two sessions, by id, its beginning or ``latest``.

    Raises:
        LedgerError: there is no such session, both are one, or one is a training run without agents.
    """
    ids = [reader.session_id(each) for each in (first, second)]
    if ids[0] == ids[1]:
        raise LedgerError(f"Found session {ids[0]} twice, expected two sessions: give another one.")
    for identity in ids:
        if reader.session(identity).kind == "training":
            raise LedgerError(f"Session {identity} is a training run without agents: give a session.")
    configs = [_flat(reader.config(identity)) for identity in ids]
    settings = {
        name: (configs[0].get(name), configs[1].get(name))
        for name in dict.fromkeys([*configs[0], *configs[1]])
        if configs[0].get(name) != configs[1].get(name)
    }
    first_side, second_side = (_side(reader, identity) for identity in ids)
    confirmed = [_confirmed(reader, identity) for identity in ids]
    told = [_rounds(reader, identity, mine) for identity, mine in zip(ids, confirmed, strict=True)]
    rounds = []
    for number in sorted({*told[0], *told[1]}):
        mine, theirs = ([each for each in side if each.row.round == number] for side in confirmed)
        pairs = tuple(pair for a in mine for b in theirs if (pair := _pair(number, a, b)) is not None)
        sides = told[0].get(number), told[1].get(number)
        why = None if pairs else _why_not(sides, (mine, theirs))
        rounds.append(RoundPair(number, *sides, pairs, why))
    return SessionComparison(first_side, second_side, settings, tuple(rounds))


def difference_of(values: Sequence[float]) -> Difference:
    """What pairs say: the mean difference, and an interval for the median difference (``median_interval``)."""
    (low, high, level), n = median_interval(values), len(values)
    above = sum(value > 0 for value in values)
    return Difference(tuple(values), math.fsum(values) / n, above, low, high, level, _conclusion(n, low, high))


def _conclusion(n: int, low: float, high: float) -> str:
    """What pairs say. As the gates stopped where they were decided, n was not fixed before: it is never a test."""
    if n == 1:
        return "One pair says nothing about the next."
    if low == high == 0:
        return "Equal in every pair."
    if low > 0 or high < 0:
        better = "first" if low > 0 else "second"
        return f"The {better} is better from this checkpoint, as far as {n} pairs can say; other checkpoints are open."
    return "Which one is better is open."


def _flat(config: Any, place: str = "") -> dict[str, Any]:
    """The settings by their place, ``gate.looks``, without those that decide nothing that is trained."""
    if not isinstance(config, dict):
        return {place: config}
    found: dict[str, Any] = {}
    for name, value in config.items():
        if place or name not in NOT_COMPARED:
            found |= _flat(value, f"{place}.{name}".lstrip("."))
    return found


def _side(reader: Reader, session: str) -> Side:
    row, costs, moves = reader.session(session), reader.costs(session), reader.main_run(session)
    head = moves[-1].segment if moves else None
    played = [] if head is None else reader.evaluations(session, head.id)  # of a set in order of env steps
    by_set = {each.episode_set: each for each in played}
    last = by_set.get("report") or by_set.get("confirm")
    return Side(
        session=session,
        task=row.task,
        algorithm=row.algorithm,
        seed=row.seed,
        status=row.status,
        backends={agent.role: agent.spec for agent in reader.agents(session)},
        sparse_return=None if last is None else last.sparse_return,
        progress=None if last is None else last.progress,
        episode_set=None if last is None else last.episode_set,
        env_steps=(head.end_env_steps or 0) if head else 0,
        total_env_steps=costs.env_steps_main + costs.env_steps_branches + costs.env_steps_twin + costs.env_steps_reused,
        evaluation_env_steps=row.evaluation_env_steps,
        tokens_in=costs.tokens_in,
        tokens_out=costs.tokens_out,
        cost_usd=costs.cost_usd,
        wall_seconds=costs.wall_seconds,
    )


def _confirmed(reader: Reader, session: str) -> list[_Confirmed]:
    """Every confirmation of a session that was judged, in order."""
    segments = reader.segments(session)
    return [
        _with_branches(row, segments)
        for row in reader.comparisons(session)
        if row.purpose == "confirm" and row.candidate_id is not None
    ]


def _with_branches(row: ComparisonRow, segments: Mapping[str, SegmentRow]) -> _Confirmed:
    name = (row.candidate_id or "").rpartition("/")[2]
    branches, parents, shaping = {}, set(), None
    for seed in (row.inputs.get("arms") or {}).get(name) or ():
        segment = segments.get(seed["segment"])
        if segment is not None:
            branches[(segment.parent, segment.seed, segment.env_steps)] = seed
            parents.add(segment.parent)
            shaping = segment.shaping
    return _Confirmed(row, name, shaping, frozenset(parents), branches)


def _rounds(reader: Reader, session: str, confirmed: Sequence[_Confirmed]) -> dict[int, RoundSide]:
    """Of every round that was decided: the action, and the last candidate that was confirmed."""
    comparisons, found = reader.comparisons(session), {}
    for decision in reader.decisions(session):
        mine = [each.row for each in confirmed if each.row.round == decision.round]
        verdicts = reader.verdicts(session, decision.round)
        last = mine[-1] if mine else None
        candidate = (last and last.candidate_id) or None
        gains: dict[str, float | None] = {}
        if last is not None and candidate is not None:
            place = (last.round, last.refinement)
            gains = {name: measured(comparisons, candidate, place, name)[0] for name in MEASURES}
        found[decision.round] = RoundSide(
            decision.action,
            candidate and candidate.rpartition("/")[2],
            verdicts[-1].outcome if verdicts else None,
            gains,
        )
    return found


def _pair(number: int, first: _Confirmed, second: _Confirmed) -> Paired | None:
    shared = [key for key in first.branches if key in second.branches]
    if not shared:
        return None
    differences = {}
    for measure in MEASURES:
        values = [
            None if a is None or b is None else a - b
            for a, b in ((first.branches[key].get(measure), second.branches[key].get(measure)) for key in shared)
        ]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            differences[measure] = difference_of(known)
    lengths = (len(first.branches), len(second.branches))
    same = first.shaping == second.shaping
    return Paired(number, first.name, second.name, same, lengths, len(shared), differences)


def _why_not(
    sides: tuple[RoundSide | None, RoundSide | None], confirmed: tuple[Sequence[_Confirmed], Sequence[_Confirmed]]
) -> str:
    """Why nothing of a round pairs."""
    for name, side, mine in zip(NAMES, sides, confirmed, strict=True):
        if side is None and not mine:
            return f"the {name} session has not decided such a round"
    without = [name for name, mine in zip(NAMES, confirmed, strict=True) if not mine]
    if without:
        return f"the {' and the '.join(without)} session confirmed no candidate"
    if not any(a.parents & b.parents for a in confirmed[0] for b in confirmed[1]):
        return "their candidates begin at different checkpoints"
    return "their branches have different seeds or lengths"
