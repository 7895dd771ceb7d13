"""Checkpoints and exported policies are held against the record: each change of one is found, and nothing else is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from learning_signal.ledger.read.reader import Reader
from learning_signal.marl.segments.segment import SegmentStore
from learning_signal.run import run
from learning_signal.tools.training.policies import export_policy
from tests.support.kinds_of_sessions import training
from tests.support.ledger_helpers import tamper


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of two segments: ledger.db, segments, and its policy."""
    folder = tmp_path_factory.mktemp("trained")
    export_policy(training(folder), "latest", folder / "policy")
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "copy")


def verified(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> tuple[int, dict]:
    capsys.readouterr()
    code = run(["log", "verify", "--ledger", str(folder / "ledger.db"), "--json", *options])
    return code, json.loads(capsys.readouterr().out)


def segments(folder: Path) -> list[str]:
    with Reader.open(folder / "ledger.db") as reader:
        return list(reader.segments(reader.session_id()))


def files(folder: Path) -> tuple[str, ...]:
    return "--store", str(folder / "segments"), "--policy", str(folder / "policy")


def test_what_was_written_agrees(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = verified(capsys, folder, *files(folder))
    assert code == 0 and said["checked"]["counts"]["checkpoints"] == 2 == len(segments(folder))
    assert segments(folder)[-1] in said["policy"] and said["checked"]["unchecked"] == []


def test_a_changed_checkpoint_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, last = segments(folder)
    store = SegmentStore(folder / "segments")
    shutil.copy(store.checkpoint_path(first), store.checkpoint_path(last))
    code, said = verified(capsys, folder, *files(folder))
    assert code == 1 and [(each["table"], each["row"]) for each in said["findings"]] == [("segments", last)]


def test_a_missing_checkpoint_is_said_and_no_finding(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(folder / "segments" / segments(folder)[0])
    code, said = verified(capsys, folder, *files(folder))
    assert code == 0 and said["checked"]["counts"]["checkpoints"] == 1
    assert [each[:24] for each in said["checked"]["unchecked"]] == ["1 of 2 checkpoints: they"]


def test_weights_of_no_segment_are_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = folder / "policy" / "policy.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1  # the last bit of the last weight's exponent and sign
    weights.write_bytes(changed)
    code, said = verified(capsys, folder, *files(folder))
    assert code == 1 and [each["table"] for each in said["findings"]] == ["policy"] and said["policy"] is None


@pytest.mark.parametrize(
    ("place", "value", "word"),
    [
        (("env_steps",), 1_000_000, "env steps"),
        (("segment",), "s0123456789abcdef", "names segment"),
        (("evaluation", "sparse_return"), 24.9, "sparse return of 24.9"),
        (("evaluation", "episodes"), 10_000, "over 10000 episodes"),
    ],
)
def test_false_words_of_a_description_are_found(
    folder: Path, capsys: pytest.CaptureFixture[str], place: tuple[str, ...], value: object, word: str
) -> None:
    description = folder / "policy" / "policy.json"
    said = json.loads(description.read_text())
    holder = said[place[0]] if len(place) == 2 else said
    holder[place[-1]] = value
    description.write_text(json.dumps(said))
    code, found = verified(capsys, folder, *files(folder))
    assert code == 1 and len(found["findings"]) == 1 and word in found["findings"][0]["problem"]


def test_a_hash_that_was_changed_in_the_log_breaks_its_chain(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tamper(folder / "ledger.db", "UPDATE segments SET checkpoint = policy", chained_anew=False)
    code, said = verified(capsys, folder, *files(folder))
    assert code == 1 and {each["table"] for each in said["findings"]} == {"segments", "links"}


def test_it_is_said_in_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["log", "verify", "--ledger", str(folder / "ledger.db"), *files(folder)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "checkpoints 2" in text and f"is that of segment {segments(folder)[-1]} of session" in text
    assert run(["log", "verify", "--ledger", str(folder / "ledger.db"), "--store", str(folder / "nowhere")]) == 2
