"""Ledgers for the tests of the ledger: an empty one, and one with the sample session in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_helpers import begin
from tests.support.ledger_samples import write_sample_session


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "new" / "ledger.db") as opened:
        yield opened


@pytest.fixture
def session(ledger: Ledger) -> str:
    return begin(ledger)


@pytest.fixture(scope="session")
def sample_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "ledger.db"
    with Ledger.open(path) as ledger:
        write_sample_session(ledger)
    return path


@pytest.fixture
def written(sample_file: Path, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with the sample session in it."""
    shutil.copy(sample_file, tmp_path / "ledger.db")
    with Ledger.open(tmp_path / "ledger.db") as opened:
        yield opened


@pytest.fixture
def sample(sample_file: Path) -> Iterator[Reader]:
    with Reader.open(sample_file) as reader:
        yield reader
