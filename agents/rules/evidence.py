"""Features as declared and as observed: the evidence of a trajectory summary on each, and its promise."""

from __future__ import annotations

import keyword
import math
from dataclasses import dataclass
from typing import Any, Literal

from learning_signal.agents.rules.reading import items, mapping, number, rows, shown, text

FUNCTIONS = {"min", "max", "abs", "exp", "clip", "mean"}
STRONG_CORRELATION = 0.4
"""A feature without direction is considered from this correlation with success on, where others have one."""
WEAK_CORRELATION = 0.1
"""The same where no feature has a direction: there is nothing else to go by."""
FAR = 2.0
"""Distances to a good end count up to this many deviations."""
PROMISING = 0.1
"""Features of less promise than this are not proposed."""


@dataclass(frozen=True)
class View:
    """A declared feature with what is known of it; None where the evidence does not say."""

    name: str
    scope: Literal["team", "agent"]
    sign: int
    """+1 where higher is better, -1 where lower is, 0 where neither is declared."""
    low: float | None
    high: float | None
    start: float | None = None
    """Mean at the start of episodes."""
    end: float | None = None
    """Mean at their end."""
    mean: float | None = None
    deviation: float | None = None
    """Standard deviation over states."""
    correlation: float | None = None
    """Rank correlation with success over episodes, of largest size where several are given."""
    before_success: float | None = None
    """In [-1, 1]: whether it was higher in episodes about to succeed than in others at the same point. What successes
    leave behind, as a distance that grows when what was close is gone, bends ``correlation`` and not this.
    """
    around_success: tuple[float, float] | None = None
    """Means just before and just after a success."""
    held: float | None = None
    """Steps for which it had been as it was just before a success."""
    waits: float | None = None
    """Share of states in which it is at its worst until the features of ``until`` are near their best."""
    until: tuple[str, ...] = ()
    then: float | None = None
    """Its standard deviation in the other states."""
    ends_badly: bool = False
    """Whether episodes that end early are the worse ones."""

    @property
    def good(self) -> float | None:
        """The declared bound in the better direction; None without direction or bound."""
        return self.high if self.sign > 0 else self.low if self.sign < 0 else None

    @property
    def bad(self) -> float | None:
        """The declared bound in the worse direction; None without direction or bound."""
        return self.low if self.sign > 0 else self.high if self.sign < 0 else None

    @property
    def tie(self) -> float | None:
        """How it goes with success: before successes where that is known, else over whole episodes."""
        return self.correlation if self.before_success is None else self.before_success

    @property
    def unit(self) -> float:
        """A typical difference between states: observed deviation, else change in time, else a quarter of the range."""
        change = None if self.start is None or self.end is None else abs(self.end - self.start)
        span = None if self.low is None or self.high is None else (self.high - self.low) / 4
        return next((value for value in (self.deviation, change, span) if value is not None and value > 1e-6), 1.0)

    @property
    def span(self) -> float:
        """The divisor of a weight: ``unit``, or a quarter of the way to the good end where that is longer.

        A feature that nearly always sits at its bad end has a small deviation; by that alone, leaving it would pay far
        more than anything else. At most three units, as a declared bound may be further than anything can get.
        """
        return self.unit if self.room is None else max(self.unit, min(self.room / 4, 3 * self.unit))

    @property
    def room(self) -> float | None:
        """Distance from the observed mean to the good end; None where either is unknown."""
        return None if self.mean is None or self.good is None else abs(self.good - self.mean)

    @property
    def in_expressions(self) -> bool:
        """Whether the name can stand inside an arithmetic expression."""
        return self.name.isidentifier() and not keyword.iskeyword(self.name) and self.name not in FUNCTIONS

    @property
    def potential(self) -> str:
        """The feature, shifted so that its potential is 0 in the state in which an episode should end.

        Phi counts as 0 once an episode has ended, so an ending pays minus the last Phi. A potential above 0 in the good
        state rewards delaying success; a potential below 0 rewards reaching an early failure. So it is 0 in the good
        state, or in the bad one where episodes end in failure. A feature without direction or bounds, or whose name
        cannot stand in an expression, is not shifted.
        """
        origin = self.bad if self.ends_badly else self.good
        if not origin or not self.in_expressions or not math.isfinite(origin):
            return self.name
        return f"{self.name} {'-' if origin > 0 else '+'} {abs(origin):g}"

    def promise(self) -> float:
        """How much shaping this feature is likely to help, in [0, 1]; 0 without direction.

        The product of three shares: room to the good end in deviations (nothing to gain at the good end), distance from
        the bad end in deviations (a feature that hardly ever leaves it is as sparse as the reward), and agreement with
        success. A team feature is preferred: agents rewarded individually may all go to the same target.
        """
        if self.sign == 0:
            return 0.0
        room = FAR if self.room is None else min(self.room / self.unit, FAR)
        off = 2.0
        if self.mean is not None and self.bad is not None:
            off = min(abs(self.mean - self.bad) / self.unit, 2.0)
        agreement = 0.0 if self.tie is None else self.tie * self.sign
        value = (room / FAR) * (off / 2.0) * (0.6 + 0.4 * max(agreement, -0.5))
        return value if self.scope == "team" else 0.8 * value

    def describe(self) -> str:
        """The numbers, in words."""
        direction = {1: "higher is better", -1: "lower is better", 0: "no declared direction"}[self.sign]
        parts = [f"{self.scope}, {direction}"]
        if self.mean is not None:
            parts.append(f"mean {shown(self.mean)}")
        if self.good is not None:
            parts.append(f"good end {shown(self.good)}")
        if self.deviation is not None:
            parts.append(f"deviation {shown(self.deviation)}")
        if self.start is not None and self.end is not None:
            parts.append(f"{shown(self.start)} at the start and {shown(self.end)} at the end of an episode")
        if self.before_success is not None:
            parts.append(f"{self.before_success:+.2f} with the next success")
        elif self.correlation is not None:
            parts.append(f"rank correlation {self.correlation:+.2f} with success")
        return f"{self.name} ({'; '.join(parts)})"


def views(brief: dict[str, Any], summary: Any) -> list[View]:
    """Every declared feature of a brief, with the numbers of a trajectory summary (any part may be missing)."""
    summary = behaviour(summary)
    failing = endings_are_failures(summary)
    observed = {text(row.get("name")): row for row in rows(summary.get("features"))}
    result = []
    for declared in rows(brief.get("features")):
        name = text(declared.get("name"))
        if name is None or declared.get("scope") not in ("team", "agent"):
            continue
        sign = {"higher": 1, "lower": -1}.get(str(declared.get("direction")), 0)
        result.append(
            View(
                name,
                declared["scope"],
                sign,
                number(declared.get("low")),
                number(declared.get("high")),
                **_observed(observed.get(name, {})),
                ends_badly=failing,
            )
        )
    return result


def behaviour(value: Any) -> dict[str, Any]:
    """The trajectory summary in a tool's result (or given as such); empty where there is none."""
    inner = mapping(value).get("summary")
    return mapping(value if inner is None else inner)


def _observed(row: dict[str, Any]) -> dict[str, Any]:
    """The evidence of a summary on one feature, as fields of a `View`."""
    time = [number(value) for value in items(row.get("over_time"))]
    given = [number(value) for key in ("with_return", "with_progress") for value in items(row.get(key))]
    sizes = [value for value in given if value is not None]
    at_success = [number(value) for value in items(row.get("at_success"))]
    before, after, held = at_success if len(at_success) == 3 else (None, None, None)
    before_successes = [number(value) for value in items(row.get("with_next_success"))]
    waits = mapping(row.get("waits"))
    _, then = (*items(waits.get("then")), None, None)[:2]
    return {
        "around_success": None if before is None or after is None else (before, after),
        "held": held,
        "waits": number(waits.get("share")),
        "until": tuple(filter(None, map(text, items(waits.get("until"))))),
        "then": number(then),
        "start": time[0] if len(time) > 1 else None,
        "end": time[-1] if len(time) > 1 else None,
        "mean": number(row.get("mean")),
        "deviation": number(row.get("standard_deviation")),
        "correlation": max(sizes, key=abs) if sizes else None,
        "before_success": next((value for value in before_successes if value is not None), None),
    }


def endings_are_failures(summary: dict[str, Any]) -> bool:
    """Whether episodes that end before the time limit are worse than those that last."""
    early = mapping(summary.get("ended_early"))
    share, tied = number(early.get("share")) or 0.0, number(early.get("with_return"))
    tied = tied if tied is not None else number(early.get("with_progress"))
    return share > 0.05 and tied is not None and tied > STRONG_CORRELATION


def ranked(features: list[View]) -> list[View]:
    """Directed features worth shaping, most promising first; ties keep the declared order."""
    worth = [view for view in features if view.promise() >= PROMISING]
    return sorted(worth, key=lambda view: -view.promise())


def undirected(features: list[View]) -> list[View]:
    """Features without direction that the evidence ties to success, strongest first."""
    least = STRONG_CORRELATION if any(view.sign for view in features) else WEAK_CORRELATION
    found = [view for view in features if view.sign == 0 and abs(view.tie or 0.0) > least]
    return sorted(found, key=lambda view: -abs(view.tie or 0.0))
