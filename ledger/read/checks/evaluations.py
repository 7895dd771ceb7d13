"""Check the evaluations of a session: each mean is that of its episodes."""

from __future__ import annotations

from collections.abc import Iterable

from learning_signal.ledger.read.checks.numbers import average, same
from learning_signal.ledger.read.records import Finding
from learning_signal.ledger.read.training import EvaluationRow


def check_means(rows: Iterable[EvaluationRow]) -> list[Finding]:
    """What is wrong with these evaluations."""
    findings = []
    for row in rows:
        for name, mean, values in (
            ("sparse_return", row.sparse_return, row.sparse_returns),
            ("progress", row.progress, row.progresses),
        ):
            if not same(mean, None if values is None else average(values)):
                problem = f"{name} is {mean}, but not the mean of its episodes"
                findings.append(Finding("evaluations", str(row.id), problem))
    return findings
