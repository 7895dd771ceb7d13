"""A decision on one screen of 24 lines: what fails, what was tried, what came of it, what would have changed it."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from learning_signal.ledger.read.records import CandidateRow, DecisionChain
from learning_signal.ledger.wording import command
from learning_signal.viewer.comparisons import probation_text, trial_line
from learning_signal.viewer.text import MISSING, agent_text, clean, number, outcome_text, shaping_line, styled

MOST_CANDIDATES = 6
"""Lines of candidates; the chosen one is always among them."""


def render_brief(chain: DecisionChain, headline: Text) -> Group:
    """One line for each part; what does not fit on its line ends with …, and the last line says where it stands."""
    lines: list[RenderableType] = [headline]
    if chain.diagnosis is not None:
        failures = chain.diagnosis.body.get("failures") or ()
        first = failures[0].get("description") if failures else chain.diagnosis.body.get("advice")
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        lines.append(_line("critic", f"“{first or MISSING}”{more}"))
    if chain.candidates:
        lines.append(_candidates(chain))
    if chain.comparison is not None and chain.comparison.purpose == "confirm":
        lines.append(_one(Text.assemble(("confirmed ", "dim"), trial_line(chain.comparison))))
    if chain.verdict is not None and chain.verdict.reading:
        lines.append(_line("validator", f"“{chain.verdict.reading}”"))
    if chain.decision.decided_by != "code":
        lines.append(_line(chain.decision.decided_by, f"“{chain.decision.reason}”"))
    marks = [mark["problem"] for each in chain.claims for mark in each.marks]
    if marks:
        more = f" (and {len(marks) - 1} more)" if len(marks) > 1 else ""
        lines.append(_one(Text(f"unsupported: {clean(marks[0])}{more}", "bold red")))
    lines += [Text.assemble(("otherwise ", "dim"), clean(each)) for each in chain.otherwise[-2:]]
    if chain.probation is not None:
        lines.append(_one(Text.assemble(("afterwards ", "dim"), probation_text(chain.probation))))
    elif chain.rolled_back_by is not None:
        lines.append(_one(Text(f"afterwards rolled back in round {chain.rolled_back_by.round}", "red")))
    lines.append(_one(Text(f"the whole of it: {command('explain', chain.decision.id)}", "dim")))
    return Group(*lines)


def _candidates(chain: DecisionChain) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    measured = {each.id: _measured(each) for each in chain.candidates}
    wide = {
        "candidate": max(len("candidate"), *(len(each.name) for each in chain.candidates)),
        "fate": max(len(each.fate) for each in chain.candidates),
        "measured": max(len("measured"), *map(len, measured.values())),
    }
    table.add_column("candidate", width=wide["candidate"], no_wrap=True)
    table.add_column("fate", width=wide["fate"], no_wrap=True)
    table.add_column("what it changes", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("measured", width=wide["measured"], justify="right", no_wrap=True)
    chosen = chain.candidate.id if chain.candidate is not None else None
    shown = sorted(chain.candidates, key=lambda each: each.id != chosen)[:MOST_CANDIDATES]
    for each in sorted(shown, key=chain.candidates.index):
        changes = clean("; ".join(each.changes)) or shaping_line(each.shaping)
        table.add_row(styled(each.name, "bold"), outcome_text(each.fate), Text(changes), measured[each.id])
    return table


def _measured(candidate: CandidateRow) -> str:
    if candidate.difference is None:
        return MISSING
    return f"{candidate.forecast_metric.replace('_', ' ')} {number(candidate.difference, sign=True)}"


def _line(agent: str, words: str) -> Text:
    return _one(Text.assemble(agent_text(agent), f" {clean(words)}"))


def _one(text: Text) -> Text:
    """On one line."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
