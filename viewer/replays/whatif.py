"""The reports of what-ifs: what another backend answered, beside what the session was answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from learning_signal.viewer.text import MISSING, agent_text, clean, count, number, outcome_text, shorten, styled

ONE_LINE = 46
"""Characters of an answer in a table."""


def render_counterfactual(asked: Mapping[str, Any]) -> Group:
    """One question put again (plain data): the answers, the shapings that differ, and what training made of them."""
    was, answers = asked["was"], asked["answers"]
    head = Text.assemble("Event ", (str(asked["event"]), "bold"), f" of session {clean(asked['session'])}: the ")
    head.append_text(agent_text(asked["role"]))
    head.append(f" in round {asked['round']}\nsession: {clean(asked['spec'])}, answers: {clean(answers[0]['spec'])}")
    table = _table("answer", "same", "says")
    table.add_row("session", "", _says(was), *[""] * 5)
    for place, answer in enumerate(answers, start=1):
        table.add_row(str(place), _same(answer["agrees"]), _says(answer["stance"]), *_cost(answer["cost"]))
    agreed = [answer["agrees"] for answer in answers]
    parts: list[RenderableType] = [head, Text(), table]
    parts.append(Text(f"{sum(each is True for each in agreed)} of {len(agreed)} answers agree with the session's"))
    parts += _shapings(was, answers)
    stopped = [(place, each["stopped"]) for place, each in enumerate(answers, start=1) if each["stopped"]]
    parts += [Text(f"answer {place}: {clean(why)}") for place, why in stopped]
    if asked.get("rounds"):
        parts += _trained(asked["round_was"], asked["rounds"])
    return Group(*parts, Text.assemble("the answers are in ", styled(asked["ledger"])))


def render_turns(asked: Mapping[str, Any]) -> Group:
    """Every turn of an agent put to backends (plain data): agreement and cost of each, then the turns one by one."""
    turns = asked["turns"]
    head = Text.assemble(
        f"{len(turns)} turns of the ", agent_text(asked["role"]), f" in session {clean(asked['session'])}"
    )
    table = _table("backend", "same")
    own = sorted({clean(turn["spec"]) for turn in turns})
    table.add_row(f"session: {', '.join(own)}", "", *_cost(_summed(asked["costs"])))
    for answers in asked["answers"]:
        agreed = sum(answer["agrees"] is True for answer in answers)
        asked_of = sum(answer["agrees"] is not None for answer in answers)
        cost = _summed([answer["cost"] for answer in answers])
        table.add_row(clean(answers[0]["spec"]), f"{agreed} of {asked_of}", *_cost(cost))
    each = Table(box=None, pad_edge=False, header_style="dim")
    each.add_column("event", justify="right")
    each.add_column("session")
    for answers in asked["answers"]:
        each.add_column(shorten(clean(answers[0]["spec"]), ONE_LINE))
    width = max(12, 84 // (1 + len(asked["answers"])))
    for place, turn in enumerate(turns):
        said = [_marked(answers[place], width) for answers in asked["answers"]]
        each.add_row(str(turn["event"]), shorten(clean(turn["was"]["text"]), width), *said)
    stopped = {answer["stopped"] for answers in asked["answers"] for answer in answers if answer["stopped"]}
    notes = [Text(clean(sentence), "red") for sentence in sorted(stopped)]
    return Group(
        head, Text(), table, Text(), each, *notes, Text.assemble("the answers are in ", styled(asked["ledger"]))
    )


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name)
    for name in ("calls", "tokens in", "out", "seconds", "USD"):
        table.add_column(name, justify="right")
    return table


def _cost(cost: Mapping[str, Any]) -> list[str]:
    usd = MISSING if cost["usd"] is None else f"{cost['usd']:.4f}"
    tokens = [MISSING if cost[name] is None else count(cost[name]) for name in ("tokens_in", "tokens_out")]
    return [str(cost["calls"]), *tokens, f"{cost['seconds']:.1f}", usd]


def _summed(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    known = {name: [cost[name] for cost in costs if cost[name] is not None] for name in costs[0]}
    return {name: sum(values) if values else None for name, values in known.items()}


def _same(agrees: bool | None) -> Text:
    return Text(MISSING) if agrees is None else Text("yes", "green") if agrees else Text("no", "yellow")


def _says(stance: Mapping[str, Any] | None) -> str:
    return MISSING if stance is None else shorten(clean(stance["text"]), ONE_LINE)


def _marked(answer: Mapping[str, Any], width: int) -> Text:
    if answer["stance"] is None:
        return Text(MISSING)
    mark, style = ("=", "green") if answer["agrees"] else ("≠", "yellow")
    return Text(f"{mark} {shorten(clean(answer['stance']['text']), width - 2)}", style)


def _shapings(was: Mapping[str, Any] | None, answers: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """The shapings of all proposals: who made each."""
    makers: dict[str, list[str]] = {}
    for name, stance in [("session", was), *((str(i), each["stance"]) for i, each in enumerate(answers, 1))]:
        for formula in (stance or {}).get("formulas") or ():
            if name not in makers.setdefault(formula, []):
                makers[formula].append(name)
    if not makers:
        return []
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("proposed by")
    table.add_column("shaping", overflow="fold")
    for formula, names in makers.items():
        style = "" if len(names) > 1 and "session" in names else "red" if names == ["session"] else "green"
        table.add_row(", ".join(names), Text(clean(formula), style))
    return [Text(), table]


def _trained(was: Mapping[str, Any] | None, rounds: Sequence[Mapping[str, Any] | None]) -> list[RenderableType]:
    """What became of the candidates of every round that was trained, the session's own first."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("answer", "candidate", "became", "difference"):
        table.add_column(name, justify="right" if name == "difference" else "left")
    table.add_column("decided")
    for name, chain in [("session", was), *((str(place), each) for place, each in enumerate(rounds, 1))]:
        if chain is None:
            table.add_row(name, MISSING, "not decided", MISSING, "")
            continue
        decision = chain["decision"]
        decided = f"{decision['action']} ({decision['decided_by']})"
        for place, candidate in enumerate(chain["candidates"]):
            told = Text(clean(candidate["name"]), "bold"), outcome_text(candidate["fate"])
            gain = number(candidate["difference"], sign=True)
            by = f" in {clean(candidate['measured_by'])}" if candidate["measured_by"] else ""
            table.add_row(name if place == 0 else "", *told, f"{gain}{by}", clean(decided) if place == 0 else "")
    return [Text(), Text("Trained from the same parent, through the same gate, with the seeds of the round"), table]
