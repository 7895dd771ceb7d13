"""Seals: a short fingerprint that tells a record from every other one, and its signature."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.segments.version import code_version
from learning_signal.run import run
from tests.support.ledger_helpers import tamper
from tests.support.recorded_ledger import RECORDED_ID, recorded_ledger

needs_ssh_keygen = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None and not os.environ.get("CI"), reason="ssh-keygen is not installed"
)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return recorded_ledger(tmp_path / "ledger.db")


def seal(ledger: Path) -> str:
    with Reader.open(ledger) as reader:
        return str(reader.session().seal)


def verified(capsys: pytest.CaptureFixture[str], ledger: Path, *options: str) -> tuple[int, dict]:
    code = run(["log", "verify", "--ledger", str(ledger), "--json", *options])
    return code, json.loads(capsys.readouterr().out)


def test_a_seal_belongs_to_one_record(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = seal(ledger)
    assert run(["log", "seal", "--ledger", str(ledger)]) == 0
    assert capsys.readouterr().out.strip() == given and len(given) == 16
    code, said = verified(capsys, ledger, "--seal", given)
    assert code == 0 and said["findings"] == [] and said["sealed"]["session"] == RECORDED_ID
    assert said["checked"]["counts"]["sessions"] == 1 and said["checked"]["counts"]["rows"] > 1000
    # Another record, with a chain of its own that agrees: only the seal tells.
    tamper(ledger, "UPDATE messages SET source = 'human' WHERE id = 3")
    assert verified(capsys, ledger)[0] == 0
    code, said = verified(capsys, ledger, "--seal", given)
    assert code == 1 and [each["table"] for each in said["findings"]] == ["seal"] and seal(ledger) != given


def test_a_record_that_went_on_still_has_its_earlier_seal(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = seal(ledger)
    with Ledger.open(ledger) as written:
        written.event(RECORDED_ID, "message", "one more")
    code, said = verified(capsys, ledger, "--seal", given)
    assert code == 0 and said["sealed"]["links"] == said["sealed"]["link"] + 1 and seal(ledger) != given
    run(["log", "verify", "--ledger", str(ledger), "--seal", given])
    assert "went on after that for 1 more" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("wrong", ["", "xyz", "0" * 15, "0" * 17])
def test_what_is_no_seal_is_refused(ledger: Path, capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    assert run(["log", "verify", "--ledger", str(ledger), "--seal", wrong]) == 2
    assert "expected 16 hexadecimal digits" in " ".join(capsys.readouterr().err.split())


def test_segments_of_another_code_are_said_to_be_unchecked(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tamper(ledger, f"UPDATE sessions SET code_version = '{code_version()}'")
    assert verified(capsys, ledger)[1]["checked"]["unchecked"] == []
    tamper(ledger, "UPDATE sessions SET code_version = 'another'")
    (sentence,) = verified(capsys, ledger)[1]["checked"]["unchecked"]
    assert "segments of 1 session were computed by another version of the training code" in sentence


@needs_ssh_keygen
def test_a_signature_is_checked_by_ssh_keygen(ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, signature, signers = tmp_path / "key", tmp_path / "seal.sig", tmp_path / "signers"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    signers.write_text(f"ada {key.with_suffix('.pub').read_text()}")
    assert run(["log", "seal", "--ledger", str(ledger), "--sign", str(key), "--to", str(signature)]) == 0
    capsys.readouterr()
    options = ["--seal", seal(ledger), "--signature", str(signature), "--signers", str(signers), "--signer"]
    assert verified(capsys, ledger, *options, "ada")[0] == 0
    code, said = verified(capsys, ledger, *options, "eve")
    assert code == 1 and [each["table"] for each in said["findings"]] == ["signature"]
    with Ledger.open(ledger) as written:
        written.event(RECORDED_ID, "message", "one more")
    options[1] = seal(ledger)
    assert verified(capsys, ledger, *options, "ada")[0] == 1, "the signature is of another seal"
    assert run(["log", "verify", "--ledger", str(ledger), "--signature", str(signature)]) == 2
