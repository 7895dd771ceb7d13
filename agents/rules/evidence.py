"""Features as declared and as observed: what a trajectory summary says about each, and how promising each is."""

from __future__ import annotations

import json
import keyword
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from agents.rules.reading import fields, items, mapping, number, shown, text

FUNCTIONS = {"min", "max", "abs", "exp", "clip", "mean"}
STRONG_CORRELATION = 0.4
"""A feature without direction is considered from this correlation with success on."""
FAR = 2.0
"""A good end further away than this many deviations is as far as it need be."""
PROMISING = 0.1
"""Features of less promise than this are not proposed."""
_CORRELATION_WORDS = ("correl", "spearman", "rho", "with_return", "with_progress", "with_success")


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

    @property
    def good(self) -> float | None:
        """The declared bound in the better direction; None without direction or bound."""
        return self.high if self.sign > 0 else self.low if self.sign < 0 else None

    @property
    def bad(self) -> float | None:
        """The declared bound in the worse direction; None without direction or bound."""
        return self.low if self.sign > 0 else self.high if self.sign < 0 else None

    @property
    def unit(self) -> float:
        """A typical difference between states: observed deviation, else change in time, else a quarter of the range."""
        change = None if self.start is None or self.end is None else abs(self.end - self.start)
        span = None if self.low is None or self.high is None else (self.high - self.low) / 4
        return next((value for value in (self.deviation, change, span) if value is not None and value > 1e-6), 1.0)

    @property
    def room(self) -> float | None:
        """Distance from the observed mean to the good end; None where either is unknown."""
        return None if self.mean is None or self.good is None else abs(self.good - self.mean)

    @property
    def in_expressions(self) -> bool:
        """Whether the name can stand inside an arithmetic expression."""
        return self.name.isidentifier() and not keyword.iskeyword(self.name) and self.name not in FUNCTIONS

    def promise(self) -> float:
        """How much shaping this feature is likely to help, in [0, 1]; 0 without direction.

        The product of three shares: room to the good end in deviations (nothing to gain at the good end), distance from
        the bad end in deviations (a feature that hardly ever leaves it is as sparse as the reward), and agreement with
        success. A team feature is preferred: agents paid each for itself may all crowd round the same thing.
        """
        if self.sign == 0:
            return 0.0
        room = FAR if self.room is None else min(self.room / self.unit, FAR)
        off = 2.0
        if self.mean is not None and self.bad is not None:
            off = min(abs(self.mean - self.bad) / self.unit, 2.0)
        agreement = 0.0 if self.correlation is None else self.correlation * self.sign
        value = (room / FAR) * (off / 2.0) * (0.6 + 0.4 * max(agreement, -0.5))
        return value if self.scope == "team" else 0.8 * value

    def describe(self) -> str:
        """The numbers, in words."""
        wanted = {1: "higher is better", -1: "lower is better", 0: "no declared direction"}[self.sign]
        said = [f"{self.scope}, {wanted}"]
        if self.mean is not None:
            said.append(f"mean {shown(self.mean)}")
        if self.good is not None:
            said.append(f"good end {shown(self.good)}")
        if self.deviation is not None:
            said.append(f"deviation {shown(self.deviation)}")
        if self.start is not None and self.end is not None:
            said.append(f"{shown(self.start)} at the start and {shown(self.end)} at the end of an episode")
        if self.correlation is not None:
            said.append(f"rank correlation {self.correlation:+.2f} with success")
        return f"{self.name} ({'; '.join(said)})"


def views(brief: dict[str, Any], summary: Any) -> list[View]:
    """Every declared feature of a brief, with the numbers of a trajectory summary (any part may be missing)."""
    summary = structure(summary, declared_names(brief))
    result = []
    for declared in map(mapping, items(brief.get("features"))):
        name = text(declared.get("name"))
        if name is None or declared.get("scope") not in ("team", "agent"):
            continue
        sign = {"higher": 1, "lower": -1}.get(declared.get("direction"), 0)
        observed = _observed(summary, name)
        result.append(
            View(
                name,
                declared["scope"],
                sign,
                number(declared.get("low")),
                number(declared.get("high")),
                **observed,
            )
        )
    return result


def declared_names(brief: dict[str, Any]) -> list[str]:
    """The names of the declared features."""
    names = (text(mapping(one).get("name")) for one in items(brief.get("features")))
    return [name for name in names if name]


def structure(value: Any, names: list[str]) -> dict[str, Any]:
    """A trajectory summary as an object, given it or the result that holds it, as an object, JSON or plain text."""
    if isinstance(value, dict):
        inner = value.get("summary")
        return value if inner is None else structure(inner, names)
    if not isinstance(value, str):
        return {}
    try:
        return structure(json.loads(value) if value.lstrip().startswith("{") else _from_text(value, names), names)
    except ValueError:
        return _from_text(value, names)


def _from_text(words: str, names: list[str]) -> dict[str, Any]:
    """Feature lines ``- name (...): start ... end | mean +- sd | ... | return a/b, progress c/d`` and action lines."""
    features = []
    idle, oscillation = (_shares(words, word) for word in ("idle", "oscillating (A, B, A)"))
    for line in words.splitlines():
        for name in names:
            if line.startswith(f"- {name} ("):
                features.append({"name": name} | _cells(line.rpartition("): ")[2].split(" | ")))
    role = re.search(r"role difference ([0-9.e-]+) bits", words)
    actions = {
        "idle": idle,
        "oscillation": oscillation,
        "role_difference": float(role.group(1)) if role else None,
    }
    return {"features": features, "actions": actions}


def _cells(cells: list[str]) -> dict[str, Any]:
    mean, _, deviation = (cells[1] if len(cells) > 1 else "").partition(" +- ")
    found = {key: [_float(part) for part in re.findall(rf"{word} ([^\s,]+)", cells[-1])[0].split("/")]
             for key, word in (("with_return", "return"), ("with_progress", "progress"))
             if re.search(rf"{word} ([^\s,]+)", cells[-1])}  # fmt: skip
    time = [_float(part) for part in cells[0].split()]
    return {"over_time": time, "mean": _float(mean), "standard_deviation": _float(deviation), **found}


def _shares(words: str, label: str) -> list[float]:
    return [
        int(found) / 100 for found in re.findall(rf"[;,] {re.escape(label)} (\d+)%", words.replace(": idle", "; idle"))
    ]


def _float(part: str) -> float | None:
    try:
        value = float(part)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _observed(summary: dict[str, Any], name: str) -> dict[str, float | None]:
    row = mapping(_entry(summary.get("features"), name))
    correlations = list(_correlations(row))
    for key, value in summary.items():
        if any(word in key.lower() for word in _CORRELATION_WORDS) or "move" in key.lower():
            correlations += _leaves(_entry(value, name))
    time = row.get("over_time", row.get("time", row))
    points = [number(value) for value in (time.values() if isinstance(time, dict) else items(time))]
    start = number(fields(time, "start"))
    end = number(fields(time, "end"))
    if isinstance(time, list) and len(points) > 1:
        start, end = points[0], points[-1]
    sizes = [value for value in correlations if -1.0 <= value <= 1.0]
    return {
        "start": start,
        "end": end,
        "mean": _first(row, "mean", "overall_mean"),
        "deviation": _first(row, "standard_deviation", "sd"),
        "correlation": max(sizes, key=abs) if sizes else None,
    }


def _entry(value: Any, name: str) -> Any:
    """The entry called ``name`` of an object by name or of a list of objects with a name."""
    if isinstance(value, dict):
        return value.get(name)
    return next((row for row in items(value) if name in (mapping(row).get("name"), mapping(row).get("feature"))), None)


def _first(row: dict[str, Any], *keys: str) -> float | None:
    for holder in (row, mapping(row.get("overall"))):
        for key in keys:
            if number(holder.get(key)) is not None:
                return number(holder[key])
    return None


def _correlations(value: Any) -> Iterator[float]:
    for key, inner in mapping(value).items():
        if any(word in key.lower() for word in _CORRELATION_WORDS):
            yield from _leaves(inner)


def _leaves(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif number(value) is not None:
        yield number(value)


def ranked(known: list[View]) -> list[View]:
    """Directed features worth shaping, most promising first; ties keep the declared order."""
    worth = [view for view in known if view.promise() >= PROMISING]
    return sorted(worth, key=lambda view: -view.promise())


def undirected(known: list[View]) -> list[View]:
    """Features without direction that the evidence ties strongly to success, strongest first."""
    found = [view for view in known if view.sign == 0 and abs(view.correlation or 0.0) > STRONG_CORRELATION]
    return sorted(found, key=lambda view: -abs(view.correlation))
