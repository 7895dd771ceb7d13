"""bench.hardening: its quick form holds, what does not hold is found, every command meets a stranger's files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.hardening.canaries import CANARIES, leaks
from bench.hardening.doors import strangers
from bench.hardening.doors.command_lines import commands
from bench.hardening.groups import GROUPS
from bench.hardening.inputs import Input, tried
from bench.hardening.kept import Kept, Result
from tests.support.places import ROOT


@pytest.mark.slow
def test_some_inputs_of_every_door_hold(tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    words = [sys.executable, "-m", "bench.hardening", "--quick", "--json", "--keep", str(keep)]
    first = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    found = json.loads(first.stdout)
    assert {each["group"] for each in found} == set(GROUPS) and len(found) == 4 * len(GROUPS)
    assert [each for each in found if each["problems"]] == [] and first.returncode == 0
    (kept,) = keep.iterdir()
    assert len(kept.read_text().splitlines()) == len(found), "what was tried is not tried again"


def test_every_command_is_called_with_a_strangers_files() -> None:
    assert strangers.COMMANDS.keys() == {name for name, _ in commands()}


# negative controls: what does not hold is found -------------------------------------------------------------------


def problems(run, tmp_path: Path, **more: object) -> list[str]:
    """What is found of an input whose command does this."""

    def does(words: Sequence[str]) -> None:
        run()

    return list(tried(Input("an input", (("x",),), lambda folder: None, run=does, **more), None).problems)  # type: ignore[arg-type]


def _raises() -> None:
    raise KeyError("gone")


def _prints_a_key() -> None:
    print(f"key: {os.environ['AWS_SECRET_ACCESS_KEY']}")


def _writes_a_key() -> None:
    Path("notes.txt").write_text(os.environ["LAB_API_KEY"][::-1])


def _contacts() -> None:
    import socket

    socket.socket().connect_ex(("127.0.0.1", 9))


def _leaves_the_folder() -> None:
    os.mkdir(Path.home().parent.parent / "hardening-escaped")


def _runs() -> None:
    Path("pwned").touch()


def _says_too_much() -> None:
    print("word " * 1_000, file=sys.stderr)


def _says_nothing() -> None:
    sys.exit(2)


def _another_code() -> None:
    sys.exit(9)


def _starts() -> None:
    subprocess.run(["true"])


FAULTY = {
    _raises: "KeyError: 'gone'",
    _prints_a_key: "a canary was printed",
    _writes_a_key: "a canary was written to work/notes.txt",
    _contacts: "it contacts 127.0.0.1:9",
    _leaves_the_folder: "it os.mkdir",
    _runs: "somebody's code was run",
    _says_too_much: "characters on standard error",
    _says_nothing: "said nothing",
    _another_code: "ended with 9",
    _starts: "it starts true",
}


@pytest.mark.parametrize(("run", "words"), FAULTY.items(), ids=lambda each: getattr(each, "__name__", None))
def test_what_does_not_hold_is_found(run, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    found = problems(run, tmp_path)
    assert any(words in each for each in found), found


def test_a_command_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.hardening.inputs.PATIENCE", 0.3)
    (found,) = problems(lambda: [None for _ in iter(int, 1)], tmp_path)
    assert "still running after 0.3 s" in found


def test_what_holds_has_no_problem(tmp_path: Path) -> None:
    assert problems(lambda: Path("mine.txt").write_text("some words"), tmp_path) == []


def test_a_canary_is_recognized_in_every_form() -> None:
    assert len(CANARIES) == 20
    import base64

    for key in CANARIES.values():
        raw = key.encode()
        for shift in range(3):
            assert leaks(base64.b64encode(b"Bearer"[:shift] + raw))
        assert leaks(raw) and leaks(raw.hex().encode()) and leaks(b"x" + raw[::-1])
    assert not leaks(b"CANARY-00 and no key")


def test_results_are_kept_by_a_line_each(tmp_path: Path) -> None:
    kept, result = Kept(tmp_path), Result("an input", ("a problem",), 0.5, 100.0)
    kept.add("ledger", 3, result)
    with kept.path.open("a") as file:
        file.write('{"cut sho')
    assert Kept(tmp_path).results() == {("ledger", 3): result}
