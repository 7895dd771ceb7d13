"""What a verification looked at, in numbers, and what it could not look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from learning_signal.ledger.chain.seal import RECOVERED
from learning_signal.ledger.read.checks.chains import chained_tables
from learning_signal.ledger.read.query import Query


@dataclass(frozen=True)
class Checked:
    """What was checked, and what could not be."""

    counts: dict[str, int]
    """How many of each."""
    unchecked: list[str]
    """One sentence each."""

    def with_files(self, checkpoints: int, unchecked: Sequence[str]) -> Checked:
        """The same with the checkpoints that were compared, and what could not be."""
        return Checked({**self.counts, "checkpoints": checkpoints}, [*self.unchecked, *unchecked])


def checked(reader: Query, code_version: str | None = None) -> Checked:
    """Count what ``verify`` checks.

    Args:
        code_version: of the training code of today, with which segments of another one are not comparable.
    """
    tables = chained_tables(reader)
    counts = {name: _count(reader, f"SELECT count(*) n FROM {table}") for name, table in COUNTED.items()}
    counts["links"] = _count(reader, "SELECT count(*) n FROM links") if tables else 0
    counts["rows"] = sum(_count(reader, f"SELECT count(*) n FROM main.{table}") for table in tables)
    return Checked(counts, _unchecked(reader, bool(tables), code_version))


COUNTED = {
    "sessions": "sessions",
    "events": "events",
    "texts": "bodies",
    "evaluations": "evaluations",
    "statistics": "comparisons",
    "decisions": "decisions",
}
"""By what is counted, its table."""


def _unchecked(reader: Query, chained: bool, code_version: str | None) -> list[str]:
    sentences = []
    if not chained:
        sentences.append(
            "An earlier version of this program wrote the log, without chains: a row that no hash, decision or "
            "statistic rests on may have been changed."
        )
    else:
        unsealed = _count(
            reader, "SELECT count(*) n FROM links WHERE number = 1 AND substr(entries, 1, 11) = '[[\"version\",'"
        )
        if unsealed:
            sentences.append(
                f"{_of(unsealed, 'session')} began under an earlier version of this program, without a chain: nothing "
                "vouches for what it had written until the log was brought up to date."
            )
        begins = f'[["{RECOVERED}"'
        recovered = _count(
            reader, f"SELECT count(*) n FROM links WHERE number = 1 AND substr(entries, 1, {len(begins)}) = '{begins}'"
        )
        if recovered:
            sentences.append(
                f"{_of(recovered, 'session')} of this log were recovered from a damaged one: unsealed, so that nothing "
                "vouches for what was written before, and rows may be missing."
            )
    if code_version is not None:
        (row,) = reader.rows(
            "SELECT count(*) n, count(DISTINCT session_id) sessions FROM segments JOIN sessions ON sessions.id = "
            "session_id WHERE code_version <> ?",
            (code_version,),
        )
        if row["n"]:
            sentences.append(
                f"{_of(row['n'], 'segment')} of {_of(row['sessions'], 'session')} were computed by another version of "
                "the training code: they cannot be trained again here."
            )
    return sentences


def _count(reader: Query, sql: str) -> int:
    return int(reader.rows(sql)[0]["n"])


def _of(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")
