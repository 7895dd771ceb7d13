"""Whether an error comes from a damaged ledger: found by hashes and chains once reading has failed."""

from __future__ import annotations

from learning_signal.ledger.canonical import content_hash
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.file.damage import UNREADABLE, damaged
from learning_signal.ledger.read.checks.chains import check_chains, tables_of
from learning_signal.ledger.read.query import Query
from learning_signal.ledger.read.records import Finding
from learning_signal.ledger.schema import VERSION


def damage_behind(error: BaseException, reader: Query) -> LedgerError | None:
    """The sentence for an error that was raised while ``reader`` was read; None where its ledger is undamaged.

    An error of this project is a sentence already.
    """
    if not isinstance(error, UNREADABLE) or type(error).__module__.startswith(__name__.partition(".")[0]):
        return None
    try:
        found = other_tables(reader) or changed_bodies(reader) or check_chains(reader)[1]
    except LedgerError as unreadable:
        return unreadable
    return damaged(reader.path, f"{found[0].table} {found[0].row} {found[0].problem}") if found else None


def other_tables(reader: Query) -> list[Finding]:
    """The tables of this program that are missing, or have other columns than the newest version gives them."""
    from sqlite_utils import Database

    from learning_signal.ledger import migrations

    (stored,) = reader.rows("PRAGMA user_version")
    newest, there = Database(memory=True), tables_of(reader)
    migrations.apply(newest)
    found = []
    for name, expected in ((table.name, set(table.columns_dict)) for table in newest.tables):
        unknown = sorted(set(there.get(name, ())) - expected)
        lacking = sorted(expected - set(there.get(name, ()))) if stored["user_version"] == VERSION else []
        if unknown or lacking:
            words = [*(f"has the unknown column {each}" for each in unknown), *(f"lacks {each}" for each in lacking)]
            found.append(Finding("the table", name, ", ".join(words)))
    return found


def changed_bodies(reader: Query) -> list[Finding]:
    """The bodies that do not have their hash."""
    return [
        Finding("bodies", row["hash"], "the body does not have this hash: it was changed")
        for row in reader.rows("SELECT hash, body FROM bodies")
        if not isinstance(row["body"], str) or content_hash(row["body"]) != row["hash"]
    ]
