"""Ledgers for the tests of the ledger: an empty one, and one with the recorded session in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_helpers import begin
from tests.support.recorded_ledger import recorded_ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "new" / "ledger.db") as opened:
        yield opened


@pytest.fixture
def session(ledger: Ledger) -> str:
    return begin(ledger)


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with the recorded session in it, to be changed."""
    with Ledger.open(recorded_ledger(tmp_path / "ledger.db")) as opened:
        yield opened


@pytest.fixture(scope="session")
def recorded_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_ledger(tmp_path_factory.mktemp("recorded") / "ledger.db")


@pytest.fixture
def recorded(recorded_file: Path) -> Iterator[Reader]:
    """The recorded session, to be read."""
    with Reader.open(recorded_file) as reader:
        yield reader
