"""What comes in from a command line or a file has a bound: beyond it stands one sentence, no traceback and no hang."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from learning_signal.marl.files import MOST_BYTES, UnreadableFile, parse_toml, read_bytes, read_text
from learning_signal.marl.policies.files import DESCRIPTION, WEIGHTS, PolicyFileError, load_policy
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.tasks import make_task
from learning_signal.run import run
from learning_signal.tools.plan.memory import in_words, least_bytes
from learning_signal.tools.plan.settings import SessionSettings
from learning_signal.tools.training.policies import export_policy
from tests.support.kinds_of_sessions import training


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence with which a command ends."""
    capsys.readouterr()
    assert run(list(arguments)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "Traceback" not in said
    return " ".join(said.split())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a pipe, a large file and strange settings."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with open("large.toml", "wb") as file:
        file.truncate(MOST_BYTES + 1)
    Path("deep.toml").write_text("x = " + "[" * 5_000 + "]" * 5_000)
    Path("dotted.toml").write_text(".".join(["a"] * 20_000) + " = 1")
    Path("digits.toml").write_text("rounds = " + "1" * 5_001)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("pipe", "is a named pipe"),
        ("/dev/zero", "is a device"),
        ("large.toml", "is larger than 10 MiB"),
        ("deep.toml", "is nested too deeply"),
        ("dotted.toml", "has a key of more than 64 parts"),
        ("digits.toml", "is not valid TOML"),
    ],
)
def test_settings_and_shapings_are_small_regular_files(
    here: Path, capsys: pytest.CaptureFixture[str], file: str, words: str
) -> None:
    said = refusal(capsys, "session", "--config", file, "--dry-run")
    assert words in said and file in said and len(said) < 400
    assert words in refusal(capsys, "train", "--shaping", file, "--dry-run")


def test_a_byte_order_mark_is_no_statement(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mark.toml").write_bytes(b"\xef\xbb\xbfrounds = 2\n")
    assert run(["session", "--config", "mark.toml", "--dry-run"]) == 0
    assert read_text(Path("mark.toml")) == "rounds = 2\n" and parse_toml("rounds = 2") == {"rounds": 2}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("rounds = true", "sets rounds to True, expected a number"),
        ("[run.learner]\nlearning_rate = true", "sets run.learner.learning_rate to True, expected a number"),
        ("[run.learner]\nhidden = [64, true]", "run.learner.hidden"),
        ("[deliberation]\ncritic = 3", "deliberation.critic"),
        ("seed = 99999999999999999999", "sets seed to 99999999999999999999, expected less than 2^63"),
        ("[run]\nevaluation_seed = 9223372036854775808", "expected less than 2^63"),
        ("[run.learner]\nenvironments = 2000000", "less than or equal to 1000000"),
        (
            "[run]\ntask = 'spread?agents=100'\n[run.learner]\nenvironments = 1000000",
            "memory (workers: 1), expected less than this machine's",
        ),
        ("[run.learner]\nhidden = [65536, 65536, 65536]", "of memory (workers: 1)"),
        ("stage_steps = 9000000000000", "less than or equal to 1000000000000"),
        ("[gate]\nscreen_seeds = 100000", "less than or equal to 100"),
        ("[run.evaluation]\nepisodes = 100000000", "less than or equal to 1000000"),
    ],
)
def test_settings_have_bounds(here: Path, capsys: pytest.CaptureFixture[str], setting: str, words: str) -> None:
    Path("some.toml").write_text(setting)
    assert words in refusal(capsys, "session", "--config", "some.toml", "--dry-run")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("session", "--dry-run", "--seed", "9223372036854775808"), "expected less than 2^63"),
        (("session", "--dry-run", "--task", "spread?agents=1000000"), "expected 1 to 100"),
        (("session", "--dry-run", "--task", "pursuit?pursuers=1000000"), "expected 2 to 100"),
        (("session", "--dry-run", "--task", "pursuit?obstacles=1000000"), "expected 0 to 100"),
        (("session", "--dry-run", "--ledger", "/"), "is a directory"),
        (("session", "--dry-run", "--ledger", "pipe"), "is a pipe or a device"),
        (("session", "--dry-run", "--store", "/dev/null"), "expected a folder"),
        (("train", "--dry-run", "--store", "large.toml"), "expected a folder"),
        (("log", "list", "--ledger", "pipe"), "is a pipe or a device"),
        (("log", "verify", "--ledger", "/dev/zero"), "is a pipe or a device"),
        (("play", "--heuristic", "--task", "spread", "--episodes", "100000000000"), "expected 2 to 1,000,000"),
        (("play", "--heuristic", "--task", "spread", "--episodes", "9" * 20), "below 2^63"),
        (("play", "--heuristic", "--task", "spread", "--episodes", "9" * 5_001), "expected a whole number"),
        (("check-env", "mpe2.simple_spread_v3:parallel_env", "--episodes", "1000000000"), "expected 2 to 10,000"),
        (("study", "--dry-run", "--seeds", "1000000000"), "expected 1 to 1,000"),
    ],
)
def test_options_have_bounds(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert words in refusal(capsys, *arguments)


def test_env_steps_may_have_a_suffix() -> None:
    steps = {text: SessionSettings(stage_steps=text).stage_steps for text in ("2500K", "2500k", "2.5M", "25e5")}  # type: ignore[arg-type]
    assert set(steps.values()) == {2_500_000}


def test_memory_grows_with_what_is_set() -> None:
    spec = make_task("spread", 1).spec
    usual = least_bytes(RunSettings(), spec, 1)
    assert usual < 0.4e9 and least_bytes(RunSettings(), spec, 3) == 3 * usual
    large = RunSettings.model_validate({"learner": {"environments": 500_000}})
    assert least_bytes(large, spec, 1) > 5e9
    replay = RunSettings.model_validate({"learner": {"algorithm": "qmix", "q_learning": {"replay_env_steps": 10**9}}})
    assert least_bytes(replay, spec, 1) > 1e11
    assert [in_words(each) for each in (5e6, 23.4e9, 1.2e12, 5e16)] == ["5 MB", "23.4 GB", "1.2 TB", "5e+04 TB"]


def test_a_policy_of_no_use_is_refused(tmp_path: Path) -> None:
    folder = export_policy(training(tmp_path), "latest", tmp_path / "policy")
    weights = load_file(folder / WEIGHTS)
    name = next(iter(weights))
    save_file(weights | {name: np.full_like(weights[name], np.nan)}, folder / WEIGHTS)
    with pytest.raises(PolicyFileError, match="NaN or infinity"):
        load_policy(folder)
    for file in (WEIGHTS, DESCRIPTION):
        (folder / file).unlink()
        os.mkfifo(folder / file)
        with pytest.raises(PolicyFileError, match="is a named pipe"):
            load_policy(folder)
        (folder / file).unlink()
        (folder / file).symlink_to("/dev/zero")
        with pytest.raises(PolicyFileError, match="is a device"):
            load_policy(folder)
        (folder / file).unlink()
        save_file(weights, folder / WEIGHTS)


def test_the_bound_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 8)
    assert read_bytes(path, 8) == b"x" * 8
    with pytest.raises(UnreadableFile, match="is larger than"):
        read_bytes(path, 7)
