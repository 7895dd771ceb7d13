"""Check the comparisons of a ledger: their inputs, seeds, levels and order, and their statistics computed again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from learning_signal.ledger.read.checks.evaluations import check_means
from learning_signal.ledger.read.checks.numbers import average, same
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import ComparisonRow, DecisionRow, Finding
from learning_signal.ledger.read.training import EvaluationRow, SegmentRow

Recompute = Callable[[str, dict[str, Any], dict[str, Any]], dict[str, Any]]
"""(purpose, inputs, settings) -> the result of the comparison, computed anew.

Where an arm of ``inputs`` names one evaluation (a probation), its episodes are added to it, as
``sparse_returns`` and ``progress``; to each seed of another arm all its evaluations on its episodes, as ``offered``.
Where a confirmation is ordered by a segment of the main run, its query evaluations are added, as ``main_run``."""

SessionRules = Callable[[dict[str, Any]], dict[str, Any]]
"""The configuration of a session -> what each of its comparisons must say.

``settings``: those of the gate by name; by purpose: what must be among the comparison's ``inputs``; ``level``: gives
the level of a confirmation from what was spent before it, its round and its place in the round, and with it
``confirmations_per_round``, the most a round may make; ``choice``: whether another candidate may be confirmed than the
first of the ranking."""


def check_comparisons(reader: Reader, recompute: Recompute | None, rules: SessionRules | None) -> list[Finding]:
    """What is wrong with the comparisons and evaluations of all sessions; see ``verify`` for the arguments."""
    findings = []
    for session in reader.session_ids():
        measured = reader.evaluations(session)
        findings += check_means(measured)
        evaluations = {(each.segment_id, each.episode_set, each.env_steps): each for each in measured}
        segments, expected = reader.segments(session), rules(reader.config(session)) if rules else {}
        comparisons = reader.comparisons(session)
        if level := expected.get("level"):
            findings += _levels(comparisons, reader.decisions(session), level, expected["confirmations_per_round"])
        findings += _orders(comparisons, segments) + _choices(comparisons, expected.get("choice", True))
        for comparison in comparisons:
            findings += _configured(comparison, expected)
            findings += _branches(reader, comparison, comparisons) + _seeds(comparison, segments)
            findings += _inputs(comparison, evaluations)
            if recompute is not None:
                findings += _statistics(comparison, evaluations, recompute)
    return findings


def _levels(
    comparisons: list[ComparisonRow], decisions: list[DecisionRow], level: Callable[[float, int, int], float], most: int
) -> list[Finding]:
    """Whether every confirmation had the level that was left for it, in its order: a promotion hands its level on.

    And whether no round has more than ``most`` confirmations.
    """
    promoted = {each.candidate_id: each.event_seq for each in decisions if each.action == "promote"}
    confirmations = [each for each in comparisons if each.purpose == "confirm"]
    findings = []
    for index, comparison in enumerate(confirmations):
        spent = sum(
            each.result.get("size") or 0.0
            for each in confirmations[:index]
            if promoted.get(each.candidate_id, comparison.event_seq) >= comparison.event_seq
        )
        place = sum(each.round == comparison.round for each in confirmations[:index])
        expected = level(spent, comparison.round, place)
        if not same(comparison.inputs.get("level"), expected):
            problem = f"its level is {comparison.inputs.get('level')}, what was left gives {expected}"
            findings.append(Finding("comparisons", comparison.id, problem))
        if place >= most:
            problem = f"is confirmation {place + 1} of its round, which may make {most}"
            findings.append(Finding("comparisons", comparison.id, problem))
    return findings


def _orders(comparisons: list[ComparisonRow], segments: dict[str, SegmentRow]) -> list[Finding]:
    """Whether every sequential confirmation was ordered as its screen says.

    Without a screen, whether it was ordered by the segment at which its branches begin; whether that gives this order
    is for ``recompute`` to say.
    """
    findings = []
    for comparison in comparisons:
        if comparison.purpose != "confirm" or "ordered_by" not in comparison.inputs:
            continue
        place = comparison.round, comparison.refinement
        screens = [each for each in comparisons if each.purpose == "screen" and (each.round, each.refinement) == place]
        inputs = comparison.inputs
        parents = {segments[one["segment"]].parent for arm in inputs["arms"].values() for one in arm}
        if not screens and parents != {inputs.get("ordered_from")}:
            findings.append(Finding("comparisons", comparison.id, "is ordered by another segment than it begins at"))
        for screen in screens[-1:]:
            if (screen.result.get("order"), screen.id.rpartition("/")[2]) != (
                inputs["ordered_by"],
                inputs.get("ordered_from"),
            ):
                findings.append(Finding("comparisons", comparison.id, "is ordered otherwise than its screen says"))
    return findings


def _choices(comparisons: list[ComparisonRow], choice: bool) -> list[Finding]:
    """Whether every candidate that was confirmed could be by its screen; without a ``choice``: only its first."""
    findings = []
    for comparison in comparisons:
        place = comparison.round, comparison.refinement
        screens = [each for each in comparisons if each.purpose == "screen" and (each.round, each.refinement) == place]
        if comparison.purpose != "confirm" or not screens:
            continue
        result, candidate = screens[-1].result, (comparison.candidate_id or "").rpartition("/")[2]
        chosen = [result["chosen"]] if result.get("chosen") else []
        allowed = chosen if result.get("confirmable") is None else result["confirmable"]
        if candidate not in allowed:
            problem = f"confirms {candidate}, which is not confirmable"
            findings.append(Finding("comparisons", comparison.id, problem))
        elif not choice and candidate != allowed[0]:
            problem = f"confirms {candidate}, but code chooses in this session, and the ranking has {allowed[0]} first"
            findings.append(Finding("comparisons", comparison.id, problem))
    return findings


def _configured(comparison: ComparisonRow, expected: dict[str, Any]) -> list[Finding]:
    """Whether a comparison was made with the gate, and for as many confirmations, as its session was configured."""
    pairs = [
        *((name, comparison.settings.get(name), value) for name, value in expected.get("settings", {}).items()),
        *((name, comparison.inputs.get(name), value) for name, value in expected.get(comparison.purpose, {}).items()),
    ]
    return [
        Finding("comparisons", comparison.id, f"its {name} is {found}, the session's is {value}")
        for name, found, value in pairs
        if found != value
    ]


def _branches(reader: Reader, comparison: ComparisonRow, comparisons: list[ComparisonRow]) -> list[Finding]:
    """Whether it compares what was launched for it: every seed of each arm's branch (of a screen: of its rung).

    The confirmations of a round are made one after the other, each with a branch of the control of its own.
    """
    purpose = comparison.purpose
    if purpose == "probation":
        return []
    launched: dict[str, list[str]] = {}
    confirmations = [each for each in comparisons if (each.purpose, each.round) == ("confirm", comparison.round)]
    place = confirmations.index(comparison) if purpose == "confirm" else 0
    branches: dict[str, list[str]] = {}
    for row in reader.rows(
        "SELECT b.id, b.arm, s.segment_id FROM branches b JOIN branch_segments s ON s.branch_id = b.id "
        "WHERE b.session_id = ? AND b.round = ? AND b.purpose = ? AND (b.purpose = 'confirm' OR b.refinement = ?) "
        "ORDER BY b.event_seq, s.position",
        (comparison.session_id, comparison.round, purpose, comparison.refinement),
    ):
        known = branches.setdefault(row["arm"], [])
        if row["id"] not in known:
            known.append(row["id"])
        if row["arm"] != "control" or known.index(row["id"]) == place:
            launched.setdefault(row["arm"], []).append(row["segment_id"])
    # Whether these are as many as the gate asks for, it says itself when it computes anew.
    seeds = max(len(measured) for measured in comparison.inputs["arms"].values())
    rung = comparison.inputs.get("rung", 0)
    return [
        Finding("comparisons", comparison.id, f"compares other segments of {arm} than its branch has")
        for arm, measured in comparison.inputs["arms"].items()
        if [each["segment"] for each in measured] != launched.get(arm, [])[rung * seeds : (rung + 1) * seeds]
    ]


def _seeds(comparison: ComparisonRow, segments: dict[str, SegmentRow]) -> list[Finding]:
    """Whether each arm was trained under one shaping and on the control's seeds, in its order.

    In a sequential confirmation every branch has a seed of its own.
    """
    if comparison.purpose == "probation":
        return []
    arms = {
        arm: [segments[each["segment"]] for each in measured if each["segment"] in segments]
        for arm, measured in comparison.inputs["arms"].items()
    }
    findings = []
    alone = "ordered_by" in comparison.inputs
    seeds = [each.seed for trained in arms.values() for each in trained]
    if alone and len(set(seeds)) < len(seeds):
        findings.append(Finding("comparisons", comparison.id, "has branches that share a seed"))
    for arm, trained in arms.items():
        if not alone and [each.seed for each in trained] != [each.seed for each in arms.get("control", [])]:
            findings.append(Finding("comparisons", comparison.id, f"{arm} has other seeds than control"))
        if any(each.shaping != trained[0].shaping for each in trained):
            findings.append(Finding("comparisons", comparison.id, f"{arm} was trained under several shapings"))
    return findings


def _inputs(comparison: ComparisonRow, evaluations: dict[tuple[str, str, int], EvaluationRow]) -> list[Finding]:
    """Whether the measures it says it used are those of the evaluations it names.

    Which ones it must use is the gate's to say: ``recompute`` refuses others.
    """
    if comparison.purpose == "probation":
        return []
    findings = []
    numbers: set[int] = set()
    for arm, seeds in comparison.inputs["arms"].items():
        for index, seed in enumerate(seeds):
            rows = [evaluations.get((seed["segment"], seed["episode_set"], at)) for at in seed["evaluations"]]
            for name in ("sparse_return", "progress"):
                values = [None if row is None else getattr(row, name) for row in rows]
                known = [value for value in values if value is not None]
                expected = average(known) if known and len(known) == len(values) else None
                if not same(seed[name], expected):
                    problem = f"{name} of {arm}, seed {index + 1}, is {seed[name]}, its evaluations give {expected}"
                    findings.append(Finding("comparisons", comparison.id, problem))
            numbers |= {row.episodes for row in rows if row is not None}
    if len(numbers) > 1:
        few, many = min(numbers), max(numbers)
        problem = f"has branches measured on {few} and on {many} episodes, so they are not exchangeable"
        findings.append(Finding("comparisons", comparison.id, problem))
    return findings


def _with_episodes(inputs: dict[str, Any], evaluations: dict[tuple[str, str, int], EvaluationRow]) -> dict[str, Any]:
    offered: dict[tuple[str, str], list[EvaluationRow]] = {}
    for row in evaluations.values():
        offered.setdefault((row.segment_id, row.episode_set), []).append(row)
    arms = dict(inputs["arms"])
    for name, arm in arms.items():
        if isinstance(arm, list):
            arms[name] = [seed | {"offered": offered.get((seed["segment"], seed["episode_set"]), [])} for seed in arm]
        if isinstance(arm, dict) and "evaluation" in arm:
            row = evaluations[arm["segment"], arm["episode_set"], arm["evaluation"]]
            arms[name] = arm | {"sparse_returns": row.sparse_returns, "progress": row.progresses}
    if main_run := offered.get((inputs.get("ordered_from", ""), "query")):
        inputs = inputs | {"main_run": main_run}
    return inputs | {"arms": arms}


def _statistics(
    comparison: ComparisonRow, evaluations: dict[tuple[str, str, int], EvaluationRow], recompute: Recompute
) -> list[Finding]:
    try:
        inputs = _with_episodes(comparison.inputs, evaluations)
        again = recompute(comparison.purpose, inputs, comparison.settings)
    except Exception as error:  # noqa: BLE001 - whatever the tampered numbers do to it is the finding
        return [Finding("comparisons", comparison.id, f"its statistics cannot be computed again: {error}")]
    return [
        Finding("comparisons", comparison.id, f"{where} is {found}, computed again it is {expected}")
        for where, found, expected in _differences("", comparison.result, again)
    ]


def _differences(where: str, found: Any, expected: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(found, dict) and isinstance(expected, dict):
        names = list(dict.fromkeys([*found, *expected]))
        parts = [(f"{where}.{name}".lstrip("."), found.get(name), expected.get(name)) for name in names]
    elif isinstance(found, (list, tuple)) and isinstance(expected, (list, tuple)) and len(found) == len(expected):
        parts = [(f"{where}[{index}]", *pair) for index, pair in enumerate(zip(found, expected, strict=True))]
    else:
        return [] if same(found, expected) else [(where, found, expected)]
    return [difference for part in parts for difference in _differences(*part)]
