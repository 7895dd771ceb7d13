"""Open a ledger file to write or to read, and refuse what is not a ledger this program knows."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from learning_signal.ledger.additions import (
    HASHES,
    HASHES_SINCE,
    PACKED_SINCE,
    REASONS,
    REASONS_SINCE,
    TOKENS,
    TOKENS_SINCE,
    UNPACKED,
)
from learning_signal.ledger.errors import LedgerError, sentence
from learning_signal.ledger.file.waiting import LOOK_SECONDS, patiently
from learning_signal.ledger.packing import add_functions
from learning_signal.ledger.schema import APPLICATION_ID, COSTS, COSTS_SINCE, RECORDED_SINCE, SINCE_RECORDED, VERSION

if TYPE_CHECKING:  # it loads numpy if installed, which would delay readers
    from sqlite_utils import Database

OLDEST_READABLE = 1
"""The first schema version that is read as it stands, without being migrated."""
OLDEST_SQLITE = (3, 37, 0)
"""The first SQLite with STRICT tables."""
NOT_BESIDE = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PROTOCOL", "SQLITE_IOERR_SHM", "SQLITE_IOERR_RDLOCK")
"""How the names of errors begin where SQLite cannot make or lock the files it keeps beside a write-ahead log."""


def open_to_write(path: Path) -> Database:
    """Open or create the ledger at ``path``, parents included, and bring it to the newest version.

    While another process locks it, this waits, see ``ledger.file.waiting``.

    Raises:
        LedgerError: the place is not writable, or the file is not a ledger, or a newer program wrote it.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise LedgerError(
            f"This Python has SQLite {sqlite3.sqlite_version}, the ledger needs "
            f"{'.'.join(map(str, OLDEST_SQLITE))} or newer; use a newer Python build."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"The directory {path.parent} of the ledger cannot be created ({error.strerror}); "
            "expected a writable directory: give another path or change its permissions."
        ) from error
    refuse_irregular(path)
    try:
        return patiently(path, lambda: _writable(path))
    except sqlite3.Error as error:
        raise LedgerError(sentence(error, path)) from error


def _writable(path: Path) -> Database:
    from sqlite_utils import Database

    from learning_signal.ledger import migrations

    connection = sqlite3.connect(path, timeout=LOOK_SECONDS, check_same_thread=False)
    try:
        version = _version_to_write(connection, path)
        use_wal(connection, path)
        add_functions(connection)
        connection.execute("PRAGMA foreign_keys = ON")
        db = Database(connection)
        if version < VERSION:
            migrations.apply(db)
        return db
    except BaseException:
        connection.close()
        raise


def _version_to_write(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the ledger, also where it has a write-ahead log and its file system refuses one.

    Such a log is read by one connection alone, and ended here.
    """
    try:
        return refuse_strangers(connection, path, empty_is_fine=True)
    except sqlite3.OperationalError as error:
        if not _not_beside(error):
            raise
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    version = refuse_strangers(connection, path, empty_is_fine=True)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA locking_mode = NORMAL")
    return version


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open the ledger at ``path`` read-only, also in a folder without write access.

    Raises:
        LedgerError: there is no such file, it is not a ledger, it has another version, or what was written last lies
            in a log beside it that cannot be used there.
    """
    refuse_absent(path)
    try:
        return patiently(path, lambda: _readable(path))
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter where SQLite's own sentence is no text
        raise LedgerError(sentence(error, path)) from error


def _readable(path: Path) -> sqlite3.Connection:
    connection = open_unchecked(path)
    try:
        version = refuse_strangers(connection, path, empty_is_fine=False)
        if version < OLDEST_READABLE:
            raise LedgerError(
                f"The ledger {path} has version {version}, this program reads versions {OLDEST_READABLE} to "
                f"{VERSION}; start or resume a session on it once, which brings it up to date."
            )
        add_functions(connection)
        _show_as_newest(connection, version)
        connection.execute("PRAGMA query_only = ON")
        return connection
    except BaseException:
        connection.close()
        raise


def refuse_absent(path: Path) -> None:
    """``LedgerError`` where no file stands at ``path``."""
    if not path.exists():
        raise LedgerError(
            f"There is no ledger at {path}; start a session first, or give the path of an existing ledger."
        )
    refuse_irregular(path)


def open_unchecked(path: Path) -> sqlite3.Connection:
    """A connection that reads what is committed to the database at ``path``, whoever wrote it.

    To share a ledger, SQLite keeps files beside it. Where it can neither use nor make them and none is left by a
    writer, the file is complete, and is read as one that nobody changes.
    """
    location = f"file:{quote(os.path.abspath(path))}?mode=ro"
    try:
        return _reached(location)
    except sqlite3.OperationalError as error:
        if not _not_beside(error):
            raise
        logs = [Path(os.path.realpath(path) + ending) for ending in ("-wal", "-journal")]
        left = [log for log in logs if log.exists() and log.stat().st_size > 0]
        if left:
            raise LedgerError(
                f"The ledger {path} has a log of its last writes beside it ({left[0].name}), which cannot be used in a "
                "folder without write access: copy all its files to a folder of yours, and read it there."
            ) from error
        return _reached(f"{location}&immutable=1")


def _reached(location: str) -> sqlite3.Connection:
    """A connection whose file could be read."""
    connection = sqlite3.connect(location, uri=True, timeout=LOOK_SECONDS, check_same_thread=False)
    try:
        connection.execute("PRAGMA schema_version")
    except BaseException:
        connection.close()
        raise
    return connection


def _not_beside(error: sqlite3.Error) -> bool:
    return (getattr(error, "sqlite_errorname", None) or "").startswith(NOT_BESIDE)


def _show_as_newest(connection: sqlite3.Connection, version: int) -> None:
    """Hide the tables of an earlier version behind temporary views with the columns that they lack."""
    lacking: dict[str, dict[str, str]] = {}
    if version < RECORDED_SINCE:
        lacking |= {table: dict(columns) for table, columns in SINCE_RECORDED.items()}
    since_then = ((COSTS_SINCE, COSTS), (REASONS_SINCE, REASONS), (TOKENS_SINCE, TOKENS), (HASHES_SINCE, HASHES))
    for since, added in since_then:
        if version < since:
            for table, columns in added.items():
                lacking.setdefault(table, {}).update(dict.fromkeys(columns, "NULL"))
    if version < PACKED_SINCE:
        nothing = ", ".join(f"NULL AS {name}" for name in ("session_id", "number", "entries", "hash"))
        connection.execute(f"CREATE TEMP VIEW links AS SELECT {nothing} WHERE FALSE")
        for table, columns in UNPACKED.items():
            lacking.setdefault(table, {}).update(columns)
    for table, columns in lacking.items():
        more = ", ".join(f"{value} AS {name}" for name, value in columns.items())
        connection.execute(
            f"CREATE TEMP VIEW {table} AS SELECT {table}.rowid AS rowid, {table}.*, {more} FROM main.{table}"
        )


def refuse_irregular(path: Path) -> None:
    """``LedgerError`` where something stands at ``path`` that cannot be a ledger: a folder, a pipe, a device."""
    if path.is_dir():
        raise LedgerError(f"The ledger {path} is a directory, expected a file; give another path.")
    if path.exists() and not path.is_file():
        raise LedgerError(f"The ledger {path} is a pipe or a device, expected a regular file; give another path.")


def refuse_strangers(connection: sqlite3.Connection, path: Path, *, empty_is_fine: bool) -> int:
    """Return the schema version of the ledger, 0 for a database with nothing in it yet.

    Raises:
        LedgerError: the database belongs to another program, or a newer version of this one wrote it.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if empty_is_fine and application == 0 and objects == 0:
        return 0
    if application != APPLICATION_ID:
        raise LedgerError(
            f"The file {path} is an SQLite database but not a ledger; give the path of a ledger or of a new file."
        )
    if version > VERSION:
        raise LedgerError(
            f"The ledger {path} has version {version}, this program knows versions up to "
            f"{VERSION}; update the program, or use another ledger."
        )
    return int(version)


def bound(sql: str, parameters: Iterable[Any]) -> tuple[Any, ...] | dict[str, Any]:
    """``parameters`` as SQLite's module takes them: numbered placeholders (``?1``) are names, here ``1``.

    From Python 3.14 on a sequence is refused for them.
    """
    values = tuple(parameters)
    return {str(number): value for number, value in enumerate(values, start=1)} if "?1" in sql else values


def use_wal(connection: sqlite3.Connection, path: Path) -> None:
    """Choose the write-ahead log, so that readers never wait for the writer, or warn that it is unavailable.

    With it, ``synchronous=NORMAL`` keeps every commit through a killed process and never corrupts the file;
    only a power cut may cost the last commits. Without it, NORMAL might corrupt, so FULL.
    """
    try:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    except sqlite3.OperationalError as error:
        if not _not_beside(error):
            raise
        mode = None
    if mode == "wal":
        connection.execute("PRAGMA synchronous = NORMAL")
        return
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = FULL")
    from loguru import logger

    logger.warning(
        "The file system of {} refuses SQLite's write-ahead log; "
        "the ledger works without it, but a live view may wait.",
        path,
    )
