"""The ledger is deleted, moved or replaced, or its folder is deleted, while a session writes it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from learning_signal.ledger.file.lost import LedgerLost
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from tests.support.session_helpers import Recorder, resume_inline, run_inline, story, tiny_settings


def _deleted(ledger: Path) -> None:
    ledger.unlink()


def _renamed(ledger: Path) -> None:
    ledger.rename(ledger.with_name("other.db"))


def _replaced(ledger: Path) -> None:
    shutil.copyfile(ledger, ledger.with_name("copy.db"))
    os.replace(ledger.with_name("copy.db"), ledger)


def _folder_deleted(ledger: Path) -> None:
    shutil.rmtree(ledger.parent)


WAYS = (_deleted, _renamed, _replaced, _folder_deleted)


def _once(act: Callable[[], None], at: int) -> Callable[[dict[str, Any]], None]:
    """Acts at one event."""
    left = [at]

    def on_event(row: dict[str, Any]) -> None:
        left[0] -= 1
        if left[0] == 0:
            act()

    return on_event


def _named(error: LedgerLost) -> Path:
    found = re.search(r"rows are in (\S+): go on with '.* resume (\S+) --ledger \1'\.$", str(error))
    assert found, str(error)
    return Path(found[1])


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, which is not that of the ledger."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    settings = tiny_settings(tmp_path_factory.mktemp("whole"))
    run_inline(settings)
    return story(settings.ledger)


@pytest.mark.parametrize("lose", WAYS)
def test_a_session_stops_within_a_step_and_goes_on_from_the_rescued_file(
    tmp_path: Path, elsewhere: Path, whole: dict[str, Any], lose: Callable[[Path], None]
) -> None:
    settings = tiny_settings(tmp_path, ledger=tmp_path / "runs" / "ledger.db")
    observer = Recorder(on_event=_once(lambda: lose(settings.ledger), at=40))
    with pytest.raises(LedgerLost, match="deleted, moved or replaced while it was written") as stopped:
        run_inline(settings, observer)
    file = _named(stopped.value)
    assert file.parent == (elsewhere if lose is _folder_deleted else settings.ledger.parent)
    with Reader.open(file) as reader:
        events = reader.events()
        assert {event["seq"] for event in observer.events} <= {event.seq for event in events}
        assert len(observer.events) == 40, "noticed by the transaction after it"
        assert verify(reader) == []
    assert resume_inline(settings.model_copy(update={"ledger": file})).status == "done"
    assert story(file) == whole, "nothing is lost, and nothing is done twice"
