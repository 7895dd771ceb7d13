"""What every test shares: one thread per process, new ledgers as copies, slow tests only on request or in CI."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator

# Before NumPy or torch is imported: the suite runs one process per core.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ[_name] = "1"
# Parallel test processes are told a terminal of 80 columns; what is printed here goes into a pipe.
os.environ.pop("COLUMNS", None)
# Which sessions are this user's is not remembered in the user's home: not by tests, whatever variables they remove.
_STATE = tempfile.TemporaryDirectory(prefix="learning-signal-state-")
os.environ["LEARNING_SIGNAL_STATE"] = os.environ["XDG_STATE_HOME"] = _STATE.name

import pytest  # noqa: E402
from sqlite_utils import Database  # noqa: E402

from learning_signal.ledger import migrations  # noqa: E402


@pytest.fixture(scope="session")
def empty_ledger() -> Iterator[sqlite3.Connection]:
    """What the migrations make of an empty file."""
    made = sqlite3.connect(":memory:", check_same_thread=False)  # sessions may write in a thread
    migrations.apply(Database(made))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def new_ledgers(empty_ledger: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file becomes a ledger as a copy of another: the migrations would take as long as many a test."""
    migrate = migrations.apply

    def apply(db: Database) -> None:
        if db.conn.execute("SELECT 1 FROM sqlite_master").fetchone():
            migrate(db)
        else:
            empty_ledger.backup(db.conn)

    monkeypatch.setattr(migrations, "apply", apply)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow (CI=true does so too)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow") or os.environ.get("CI", "").lower() in ("1", "true"):
        return
    skip = pytest.mark.skip(reason="slow: run with --slow or CI=true")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)
