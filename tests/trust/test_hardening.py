"""What ``python -m bench.hardening`` found, each with its siblings: long words, bytes, links, pipes and types."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from learning_signal.marl.files import MOST_PARTS, UnreadableFile, parse_toml
from learning_signal.marl.tasks.foreign.apart import check_apart
from learning_signal.run import run
from learning_signal.viewer.cli.terminal import LONGEST_SENTENCE
from tests.support.faulty.cells import Cell, play
from tests.support.faulty.fault import Fault, Turn
from tests.support.faulty.protocols import PROTOCOLS
from tests.support.recorded_ledger import RECORDED_ID, recorded_ledger
from tests.support.scripted_server import Reply


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A received folder with a ledger, and beside it a file of the user's."""
    folder = tmp_path / "received"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LEARNING_SIGNAL_LEDGER", "ledger.db")
    recorded_ledger(folder / "ledger.db")
    (tmp_path / "precious").write_text("mine")
    return folder


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The sentence with which a command ends."""
    capsys.readouterr()
    assert run(list(arguments)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "Traceback" not in said
    return said


# what is typed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("play", "a " * 20_000),
        ("explain", "a" * 20_000),
        ("log", "diff", "latest", "b" * 20_000),
        ("study", "--dry-run", "--env-steps", "9" * 20_000),
        ("c" * 20_000,),
        ("session", "--dry-run", "--config", "long.toml"),
    ],
)
def test_an_error_repeats_no_endless_word(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    Path("long.toml").write_text(f"[budget]\nusd = [{'0, ' * 5_000}]")
    said = refusal(capsys, *arguments)
    assert len(said) < LONGEST_SENTENCE + 100 and "characters left out" in said


def test_an_error_of_usual_length_is_whole(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Negative control."""
    assert "characters left out" not in refusal(capsys, "play", "x" * 1_000)


@pytest.mark.parametrize(
    "arguments",
    [
        ("log", "search", "coverage", "--agent", "\udcff"),
        ("log", "show", "--status", "\udcff"),
        ("log", "show", "--kind", "a\udcff"),
        ("study", "--dry-run", "--address", "\udcff"),
    ],
)
def test_bytes_that_are_no_text_are_named(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    said = refusal(capsys, *arguments)
    assert "\\udcff'" in said and "not UTF-8" in said


@pytest.mark.parametrize("text", ["a " * 5_000, "a" * 100_000, "coverage OR " * 60 + "coverage"])
@pytest.mark.parametrize("command", [("log", "search", "{}"), ("log", "show", "--text", "{}")])
def test_what_is_searched_for_has_a_bound(
    here: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], text: str
) -> None:
    assert "expected at most 64 words" in refusal(capsys, *(word.format(text) for word in command))
    assert run([word.format("a " * 60) for word in command]) == 0


@pytest.mark.parametrize(
    "command", [("log", "export", "--to"), ("log", "export", "--as", "data", "--to"), ("log", "plot", "--to")]
)
def test_a_report_is_not_written_into_a_pipe_without_a_reader(
    here: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    os.mkfifo("pipe.svg")
    assert "is a named pipe" in refusal(capsys, *command, "pipe.svg")


@pytest.mark.parametrize("option", ["--to", "--store"])
def test_a_link_to_itself_is_named(here: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    Path("loop").symlink_to("loop")
    said = refusal(capsys, "replay", option, "loop")
    assert "loop" in said and len(said.splitlines()) == 1


def test_a_key_of_many_parts_is_refused_before_it_is_parsed() -> None:
    for key in (".".join(["a"] * 20_000), " . ".join(['"b"'] * 20_000), "x = {" + "c." * 20_000 + "d"):
        with pytest.raises(UnreadableFile, match=f"more than {MOST_PARTS} parts"):
            parse_toml(f"{key} = 1")
    assert parse_toml("a.b.c = 1.5\nd = 'a.b.c.d'\ne = [" + "1.5, " * 1_000 + "]")["a"] == {"b": {"c": 1.5}}


# links in a received folder ---------------------------------------------------------------------------------------

WRITING = {
    ("log", "plot", "--to", "c.svg"): "c.svg",
    ("log", "plot", "--to", "c.png"): "c.png",
    ("log", "export", "--to", "r.html"): "r.html",
    ("log", "export", "--as", "markdown", "--to", "r.md"): "r.md",
    ("log", "export", "--as", "data", "--to", "d.json"): "d.json",
    ("log", "export", "--as", "csv", "--to", "tables"): "tables/events.csv",
    ("log", "export", "--as", "parquet", "--to", "tables"): "tables/events.parquet",
    ("log", "export", "--as", "atif"): f"{RECORDED_ID}/trajectory.json",
    ("log", "plot"): f"{RECORDED_ID}/curve.svg",
}
"""A command that writes, and the file of its that a stranger has made a link."""


@pytest.mark.parametrize(("command", "link"), WRITING.items(), ids=[" ".join(each) for each in WRITING])
def test_nothing_is_written_through_a_link(
    here: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], link: str
) -> None:
    if "parquet" in command:
        pytest.importorskip("pyarrow")
    path = Path(link)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(here.parent / "precious")
    assert "is a link to" in refusal(capsys, *command)
    assert (here.parent / "precious").read_text() == "mine"
    path.unlink()
    assert run(list(command)) == 0, "negative control: without the link it is written"


def test_a_folder_of_a_session_that_is_a_link_is_not_written_to(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(RECORDED_ID).symlink_to(here.parent)
    for command in (("log", "export"), ("log", "plot")):
        assert "is a link to" in refusal(capsys, *command)
    assert {path.name for path in here.parent.iterdir()} == {"precious", "received"}


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="OpenSSH is not installed")
def test_a_signature_is_not_written_through_a_link(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "key"], check=True)
    Path(f"{RECORDED_ID}.seal.sig").symlink_to(here.parent / "precious")
    assert "is a link to" in refusal(capsys, "log", "seal", "--sign", "key")
    assert (here.parent / "precious").read_text() == "mine"
    assert run(["log", "seal", "--sign", "key", "--to", "mine.sig"]) == 0


def test_a_link_within_the_folder_is_the_users_own_affair(here: Path) -> None:
    """Negative control."""
    Path("newest.svg").symlink_to("c.svg")
    assert run(["log", "plot", "--to", "newest.svg"]) == 0
    assert Path("c.svg").read_text().startswith("<svg")


# environments -----------------------------------------------------------------------------------------------------


WRITES = """
import os
from pettingzoo import ParallelEnv

class Env(ParallelEnv):
    def __init__(self):
        for number in range(3, 30):
            try:
                os.write(number, {written!r})
            except OSError:
                pass
"""


@pytest.mark.parametrize(
    "written", ['{"findings": []}', '{"findings": [{"a": 1}], "task": {}}', "[1]", "no JSON", "null"]
)
def test_an_environment_that_writes_where_its_answers_go_is_named(here: Path, written: str) -> None:
    Path("writes.py").write_text(WRITES.format(written=f"{written}\n".encode()))
    checked = check_apart("writes:Env", 2, 20.0)
    assert checked.task is None
    (finding,) = checked.findings
    assert finding.level == "error" and "wrote into a file that it did not open" in finding.message


# replies ----------------------------------------------------------------------------------------------------------


def _of_another_type(turn: Turn) -> Reply:
    """The good answer with a field of another type than its protocol says."""
    body = turn.protocol.reply(turn.good)
    match turn.protocol.name:
        case "openai":
            body["choices"][0]["message"]["tool_calls"][0]["type"] = 5
            body |= {"id": 7, "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": "x"}}
        case "anthropic":
            body |= {"model": 7, "id": None, "type": {}}
        case _:
            body |= {"model": [], "created_at": 5}
    return Reply(body=body)


@pytest.mark.parametrize(
    "arguments",
    [
        {"names": 10**400},
        {"names": [10**400, -(10**400)]},
        {"beta": 10**400, "terms": [{"potential": "speed", "weight": 10**400}]},
        {"beta": 1, "terms": [{}], "anneal": "soon"},
        {"beta": 1, "terms": [{}], "anneal": {"start": 5}},
        {"candidates": [{"beta": None, "terms": [{"weight": []}], "anneal": [1]}]},
    ],
)
def test_whatever_a_model_writes_into_a_call_can_be_shown(arguments: dict[str, Any]) -> None:
    def does(turn: Turn) -> Reply:
        return turn.changed(calls=turn.first(arguments=arguments))

    ending = play(Cell(Fault("arguments", does, "recovers"), PROTOCOLS[0], "critic"))
    assert (ending.status, ending.unhandled) == ("done", [])


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda each: each.name)
def test_types_of_fields_that_nobody_reads_cause_no_warning(protocol) -> None:
    ending = play(Cell(Fault("another type", _of_another_type, "recovers", times=None, meant=True), protocol, "critic"))
    assert (ending.status, ending.unhandled) == ("done", [])
