"""How a comparison of a round reads: a screen, a confirmation of either gate, a probation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from learning_signal.ledger.read.records import ComparisonRow, EventRow
from learning_signal.viewer.claims import claim_text, record_text
from learning_signal.viewer.events import verdict_text
from learning_signal.viewer.text import MISSING, agent_text, clean, difference_bar, number, shorten, styled

CONTROL = "control"
MEASURES = ("sparse_return", "progress")
FOUND = 170
"""Characters of one failure that are shown. The log has all of it."""


def comparison_title(comparison: ComparisonRow) -> str:
    """What was compared, and how."""
    if comparison.purpose != "confirm":
        return {"probation": "Probation"}.get(comparison.purpose, "Comparison")
    if is_trial(comparison):
        name = clean(_candidate_of(comparison))
        return f"Confirmation: {name} against the control, each branch on a seed of its own"
    used = {seed.get("episode_set") for seeds in (comparison.inputs.get("arms") or {}).values() for seed in seeds}
    where = "in the run that was screened" if used == {"screen"} else "on fresh paired seeds"
    return f"Confirmation: {clean(_measure(comparison))} {where}"


def comparison_lines(comparison: ComparisonRow) -> list[RenderableType]:
    """The measures of every branch that was compared, and what they came to."""
    if comparison.purpose == "probation":
        return [probation_text(comparison)]
    if comparison.purpose == "screen":
        return screen_lines(comparison)
    if is_trial(comparison):
        return _trial(comparison)
    return [_pairs(comparison), _statistics(comparison)]


def screens_once(screens: Sequence[ComparisonRow]) -> list[tuple[ComparisonRow, list[ComparisonRow]]]:
    """Every screen (or rung of one) as it ended, with what it was before each further seed, oldest first."""
    found: list[tuple[ComparisonRow, list[ComparisonRow]]] = []
    for each in screens:
        if each.inputs.get("further") and found and found[-1][0].refinement == each.refinement:
            last, before = found.pop()
            found.append((each, [*before, last]))
        else:
            found.append((each, []))
    return found


def screen_lines(comparison: ComparisonRow, before: Sequence[ComparisonRow] = ()) -> list[RenderableType]:
    """The ranking. Where two measures order it, a table of the gains in both, and what the order rests on.

    ``before``: the same screen before each further seed; what those added is told after it.
    """
    return [*_screen(comparison), *_further([*before, comparison])]


def _further(screens: Sequence[ComparisonRow]) -> list[RenderableType]:
    """What each further seed was for, what it changed, and who was left out of it."""
    lines: list[RenderableType] = []
    for earlier, later in pairwise(screens):
        measure = _measure(later)
        was, now = (_differences(each) for each in (earlier, later))
        changed = [f"{clean(name)} {number(was.get(name), sign=True)} → {number(now[name], sign=True)}" for name in now]
        left_out = [
            f"{clean(name)} stays at {number(was[name], sign=True)}, left out" for name in was if name not in now
        ]
        title = f"a further seed, difference of {clean(measure)}: {', '.join(changed + left_out)}"
        lines.append(record_text(title))
        lines.append(claim_text("validator", str(later.inputs.get("extended", MISSING))))
    return lines


def _differences(comparison: ComparisonRow) -> dict[str, float | None]:
    """By candidate, its mean difference to the control in the measure of the screen."""
    return {str(arm.get("name", MISSING)): arm.get("mean_difference") for arm in comparison.result.get("arms") or ()}


def _screen(comparison: ComparisonRow) -> list[RenderableType]:
    result = comparison.result
    if result.get("order") is None:
        return [_ranking(comparison), *_beside(comparison)]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("candidate")
    for measure in MEASURES:
        table.add_column(f"gain in {measure.replace('_', ' ')}", justify="right")
    for measure in MEASURES:
        table.add_column(measure.replace("_", " "), justify="right", style="dim")
    table.add_column("")
    confirmable, goes_on = result.get("confirmable") or (), result.get("goes_on") or ()
    for arm in result.get("arms") or ():
        name, gains = str(arm.get("name", MISSING)), arm.get("gains") or {}
        note = "may be confirmed" if name in confirmable else "goes on" if name in goes_on else ""
        if arm.get("failure"):
            cause = _lost(comparison, arm.get("name"))
            note = arm["failure"] + (f" ({cause})" if cause else "")
        values = [number(gains.get(measure), sign=True) for measure in MEASURES]
        values += [_seeds(comparison, name, measure) for measure in MEASURES]
        table.add_row(styled(name, "bold" if name == result.get("chosen") else ""), *values, styled(note))
    table.add_row(CONTROL, "", "", *(_seeds(comparison, CONTROL, measure) for measure in MEASURES), "")
    first = Text("→ no candidate may be confirmed")
    if goes_on:
        first = _goes_on(Text(), result)
    elif result.get("chosen"):
        first = Text(f"→ {clean(result['chosen'])} is first")
    return [table, Text(f"order: {clean(str(result['order'].get('reason', MISSING)))}"), first]


def _seeds(comparison: ComparisonRow, arm: str, measure: str) -> str:
    """What an arm scored, seed by seed."""
    seeds = (comparison.inputs.get("arms") or {}).get(arm) or ()
    return ", ".join(number(seed.get(measure)) for seed in seeds) or MISSING


def choice_lines(choices: Sequence[EventRow], screened: bool) -> list[RenderableType]:
    """Who had which candidate confirmed, and why; ``screened`` says whether there was a ranking to choose from."""
    lines: list[RenderableType] = []
    asked = ""
    for event in choices:
        _, _, said = clean(event.title).partition(": confirm " if event.kind == "sent_back" else ": ")
        if event.kind == "sent_back":
            asked, _, reason = said.partition(": ")
            lines.append(
                Text.assemble(agent_text(event.agent), " sent the round back for ", (asked, "bold"), f": {reason}")
            )
            continue
        name, _, rest = said.removeprefix("confirm ").partition(" ")
        _, over, reason = rest.partition(", chosen over ")
        if over:
            why = f", chosen over {reason}"
        elif name == asked:
            why = ", as it was asked to"
        else:
            why = ", the first in the ranking" if screened else ", the only candidate"
        lines.append(Text.assemble(agent_text(event.agent), " confirmed ", (name, "bold"), why))
    return lines


def is_trial(comparison: ComparisonRow) -> bool:
    """Whether a confirmation added branches until it was decided."""
    return comparison.purpose == "confirm" and "look" in comparison.result


def trial_line(comparison: ComparisonRow) -> Text:
    """A confirmation in one sentence."""
    outcome = str(comparison.result.get("outcome", MISSING))
    reason = str(comparison.result.get("reason", MISSING))
    return Text.assemble((clean(_candidate_of(comparison)), "bold"), ": ", verdict_text(outcome, reason))


def probation_text(comparison: ComparisonRow) -> Text:
    """A probation in one sentence."""
    return verdict_text(str(comparison.result.get("outcome", MISSING)), str(comparison.result.get("reason", MISSING)))


def _ranking(comparison: ComparisonRow) -> Text:
    result = comparison.result
    line = Text(f"mean {clean(_measure(comparison))} against control: ")
    arms = result.get("arms") or ()
    for index, arm in enumerate(arms):
        name = clean(str(arm.get("name", MISSING)))
        line.append(", " if index else "").append(name, "bold" if name == result.get("chosen") else "")
        failure = arm.get("failure")
        cause = _lost(comparison, arm.get("name"))
        if failure:
            line.append(f" {shorten(failure + (f' ({cause})' if cause else ''), FOUND)}")
        else:
            line.append(f" {number(arm.get('mean_difference'), sign=True)}")
    return _goes_on(line.append(" "), result)


def _beside(comparison: ComparisonRow) -> list[Text]:
    """The measure by which a screen did not rank, of every arm: the mean over its seeds; none where nothing has it."""
    arms: Mapping[str, Any] = comparison.inputs.get("arms") or {}
    measured = _measure(comparison).replace(" ", "_")
    other = "progress" if measured == "sparse_return" else "sparse_return"
    known = {
        name: [seed[other] for seed in seeds or () if isinstance(seed.get(other), int | float)]
        for name, seeds in arms.items()
    }
    told = [f"{clean(name)} {number(sum(each) / len(each))}" for name, each in known.items() if each]
    return [Text(f"mean {other.replace('_', ' ')}: {', '.join(told)}")] if told else []


def _goes_on(line: Text, result: Mapping[str, Any]) -> Text:
    chosen = [result["chosen"]] if result.get("chosen") else result.get("goes_on") or ["none"]
    return line.append(f"→ {clean(', '.join(chosen))} {'go' if len(chosen) > 1 else 'goes'} on")


def _lost(comparison: ComparisonRow, arm: str | None) -> str | None:
    """Why a seed of the arm has no measure, where one has none."""
    seeds = (comparison.inputs.get("arms") or {}).get(arm) or ()
    return next((seed["reason"] for seed in seeds if seed.get("reason")), None)


def _pairs(comparison: ComparisonRow) -> Table:
    """One row per seed: control, candidate and their difference in the measure that was judged."""
    arms: Mapping[str, Any] = comparison.inputs.get("arms") or {}
    measure = _measure(comparison).replace(" ", "_")
    candidate = _candidate_of(comparison)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("seed", justify="right")
    for title in (CONTROL, clean(candidate), "difference"):
        table.add_column(title, justify="right")
    table.add_column("")
    other = "progress" if measure == "sparse_return" else "sparse_return"
    table.add_column(f"{other.replace('_', ' ')} of both", justify="right", style="dim")
    pairs = list(zip(arms.get(CONTROL) or (), arms.get(candidate) or (), strict=False))
    differences = [_difference(low.get(measure), high.get(measure)) for low, high in pairs]
    largest = max((abs(each) for each in differences if each is not None), default=0.0)
    for index, ((low, high), difference) in enumerate(zip(pairs, differences, strict=True)):
        table.add_row(
            str(index + 1),
            Text(_value(low, measure)),
            Text(_value(high, measure)),
            number(difference, sign=True),
            difference_bar(difference, largest),
            Text(f"{_value(low, other)} / {_value(high, other)}"),
        )
    return table


def _trial(comparison: ComparisonRow) -> list[RenderableType]:
    """Both measures of every branch (those of a row are no pair), what the test came to, and what ordered branches."""
    arms: Mapping[str, Any] = comparison.inputs.get("arms") or {}
    names = (CONTROL, _candidate_of(comparison))
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("branch", justify="right")
    for name in names:
        for measure in MEASURES:
            table.add_column(f"{clean(name)}: {measure.replace('_', ' ')}", justify="right")
    for index, row in enumerate(zip(*(arms.get(name) or () for name in names), strict=False)):
        table.add_row(str(index + 1), *(Text(_value(seed, measure)) for seed in row for measure in MEASURES))
    lines: list[RenderableType] = [table, _tested(comparison.result)]
    if not str(comparison.inputs.get("ordered_from", "")).startswith("C"):  # a screen has said it
        lines.append(Text(f"order: {clean(str((comparison.result.get('order') or {}).get('reason', MISSING)))}"))
    return lines


def _tested(result: Mapping[str, Any]) -> Text:
    """What a trial came to: the pairs won, the difference, its p, what it had to exceed, and both measures."""
    looks, most = result.get("look", 0), (result.get("settings") or {}).get("looks", MISSING)
    if result.get("wins") is None:
        return Text(f"nothing could be compared after {looks} of at most {most} branches of each arm")
    low, high = result.get("interval") or (None, None)
    if low is None and high is None:
        between = "no bound after so few branches"
    else:
        between = f"interval {_bounds(low, high)}"
    needed = result.get("pass_at")
    passes = "cannot pass after so few" if needed is None else f"passes from {needed} pairs on"
    line = Text.assemble(
        f"won {result['wins']} of {looks**2} pairs ({looks} of at most {most} branches of each arm; {passes}), "
        f"difference of {clean(str(result.get('measure', MISSING))).replace('_', ' ')} ",
        (number(result.get("mean_difference"), sign=True), "bold"),
        f" ({between}), passes above delta {number(result.get('delta'))}, p = ",
        (number(result.get("p")), "bold"),
        f" at level {number(result.get('level'))}",
    )
    means = result.get("means") or {}
    for index, measure in enumerate(MEASURES):
        control, candidate = ((means.get(arm) or {}).get(measure) for arm in (CONTROL, "candidate"))
        if control is not None and candidate is not None:
            said = f"{measure.replace('_', ' ')} {number(candidate)} against {number(control)}"
            line.append(f"{', ' if index else '; '}{said}")
    if result.get("outcome") != "pass" and isinstance(most, int) and looks < most:
        line.append("; it ended early, as it could hardly pass any more")
    return line


def _bounds(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"at most {number(high, sign=True)}" if low is None else f"at least {number(low, sign=True)}"
    return f"{number(low, sign=True)} to {number(high, sign=True)}"


def _statistics(comparison: ComparisonRow) -> Text:
    result = comparison.result
    if result.get("differences") and result.get("p") is None:
        return Text(f"mean difference {number(result.get('mean_difference'), sign=True)}; nothing was tested")
    interval = result.get("interval")
    between = f"{number(interval[0], sign=True)} to {number(interval[1], sign=True)}" if interval else MISSING
    line = Text.assemble(
        "mean difference ",
        (number(result.get("mean_difference"), sign=True), "bold"),
        f" (interval {between}), ",
        "p = ",
        (number(result.get("p")), "bold"),
        f" over {result.get('n', MISSING)} pairs; ",
        f"passes above delta {number(result.get('delta'))} with p at most {number(result.get('alpha'))}, ",
        f"judged on {clean(_measure(comparison))}",
    )
    if result.get("below_floor"):
        line.append(" (the mean of the better of each pair is below the competence floor)")
    return line


def _candidate_of(comparison: ComparisonRow) -> str:
    """The name of the candidate that is confirmed."""
    return next((name for name in comparison.inputs.get("arms") or () if name != CONTROL), MISSING)


def _measure(comparison: ComparisonRow) -> str:
    found = comparison.result.get("measure") or comparison.result.get("rule") or "sparse_return"
    return str(found).replace("_", " ")


def _value(seed: Mapping[str, Any], measure: str) -> str:
    if seed.get(measure) is None and seed.get("reason"):
        return shorten(seed["reason"], 30)
    return number(seed.get(measure))


def _difference(control: float | None, candidate: float | None) -> float | None:
    return None if control is None or candidate is None else candidate - control
