"""One input, as a user or a stranger gives it, and what became of it in a process of its own.

The process is a fork of one that has imported the program, so an input costs no import. It has bounds of its own:
seconds, memory, a folder, and variables with canaries.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.hardening.canaries import CANARIES, leaks
from bench.hardening.watching import watch
from learning_signal import run as program

PATIENCE = 30.0
"""Seconds that a command may take; half of what would be a hang."""
MOST_MEGABYTES = 2_000
_STOP = 4 * 2**30
"""Bytes of address space beyond what the fork has, at which the system stops a process."""
_UNIT = 1 if sys.platform == "darwin" else 2**10
LONGEST = 3_000
"""Characters on standard error: a few sentences, or the list of what a received session would use."""
BROKEN = 65
CODES = (0, 1, 2, 4)
"""Exit codes of a command that ends by itself: done, found errors, bad input, paused."""
_TRACES = ("Traceback (most recent call last)", "This is a fault of the program", "Exception ignored in")


@dataclass(frozen=True)
class Input:
    """What is put into a folder, and the commands that are then run there."""

    name: str
    """The smallest description of what is wrong with it."""
    commands: tuple[tuple[str, ...], ...]
    prepare: Callable[[Path], None]
    """Puts it into a folder: the one that is worked in."""
    variables: Mapping[str, str] = field(default_factory=dict)
    received: bool = False
    """Whether it comes from somebody else, so that no session in it is this user's."""
    serves: bool = False
    """Whether the commands go on until Ctrl-C, which is pressed after two seconds."""
    run: Callable[[Sequence[str]], None] = lambda words: as_program(words)
    """What is done with the words of a command. What does not hold of it is printed, and raised as ``SystemExit`` of
    ``BROKEN``."""
    lent: Callable[[], tuple[Path, ...]] = tuple
    """Further folders that it may write to."""
    ports: tuple[int, ...] | None = ()
    """Of this machine, which it may contact; None: all of them."""


@dataclass(frozen=True)
class Ending:
    """What came of one command."""

    code: int
    """Its exit code; the number of a signal that ended it is negative."""
    seconds: float
    megabytes: float
    out: bytes
    err: bytes
    notes: tuple[str, ...]
    """What it did beyond its folder."""
    late: bool
    """Whether it had to be killed."""


def problems(ending: Ending, serves: bool = False) -> list[str]:
    """What of an ending is not as it must be; empty where the input holds."""
    said = ending.err.decode("utf-8", "replace")
    everything = said + ending.out.decode("utf-8", "replace")
    trace = next((each for each in _TRACES if each in said), None)  # an environment may print one of its own
    codes = (*CODES, 130) if serves else CODES
    checks = {
        f"was still running after {PATIENCE:g} s": not ending.late,
        f"ended with {ending.code}: {_last_line(everything)}": ending.late or ending.code in codes,
        f"a traceback: {_last_line(said)}": trace is None,
        f"{ending.megabytes:.0f} MB of memory": ending.megabytes < MOST_MEGABYTES,
        f"{len(said)} characters on standard error": trace is not None or len(said) <= LONGEST,
        f"ended with {ending.code} and said nothing": ending.late
        or ending.code in (0, 130)
        or bool(everything.strip()),
        "a canary was printed": not leaks(ending.out + ending.err),
        **{f"it {note}": False for note in ending.notes},
    }
    return [words for words, holds in checks.items() if not holds]


def _last_line(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1][:160] if lines else ""


@dataclass(frozen=True)
class Attempt:
    """A folder of its own for an input: what is worked in, and what a user has besides."""

    root: Path

    @property
    def work(self) -> Path:
        return self.root / "work"

    def variables(self, given: Input) -> dict[str, str]:
        """The environment of its commands."""
        user = {
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            "LEARNING_SIGNAL_STATE": str(self.root / "state"),
            "XDG_STATE_HOME": str(self.root / "state"),
            "COLUMNS": "100",
        }
        return {**CANARIES, **user, **given.variables}

    def left(self) -> list[str]:
        """What lies where nothing may, and where a canary was written."""
        found = [f"left {path.name} in {place}" for place in ("home", "tmp") for path in (self.root / place).iterdir()]
        precious = self.root / "home" / PRECIOUS
        if precious.exists() and precious.read_text() == PRECIOUS:
            found.remove(f"left {PRECIOUS} in home")
        found += [f"left {path.name} beside the folder" for path in self.root.iterdir() if path.name not in _PARTS]
        found += [f"somebody's code was run: {path.name}" for name in MARKS for path in self.root.rglob(name)]
        for path in self.root.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.parent != self.root and leaks(_begin(path)):
                found.append(f"a canary was written to {path.relative_to(self.root)}")
        return found


MARKS = ("pwned", "imported")
"""Files that appear where code from an input is run, or a module beside a ledger is imported."""
PRECIOUS = "precious"
"""A file of the user's, outside of the folder, that holds its name."""
_PARTS = ("work", "home", "tmp", "state", "said")


def _begin(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(64 * 2**20)
    except OSError:
        return b""


@contextmanager
def attempted(given: Input, state: Path | None) -> Iterator[Attempt]:
    """The folder of an input, with the input in it; ``state`` says which sessions are this user's."""
    with tempfile.TemporaryDirectory(prefix="hardening-", ignore_cleanup_errors=True) as name:
        attempt = Attempt(Path(name))
        for part in _PARTS[:3]:
            (attempt.root / part).mkdir()
        (attempt.root / "said").mkdir()
        if state is not None and not given.received:
            shutil.copytree(state, attempt.root / "state")
        given.prepare(attempt.work)
        yield attempt


@dataclass(frozen=True)
class Result:
    """What became of an input."""

    name: str
    problems: tuple[str, ...]
    """What does not hold, each with the command that showed it; empty where the input holds."""
    seconds: float
    """Of its longest command."""
    megabytes: float
    """Of its largest process."""


def tried(given: Input, state: Path | None) -> Result:
    """Give an input to its commands."""
    with attempted(given, state) as attempt:
        found, endings = [], []
        for words in given.commands:
            ending = run_apart(attempt, words, given)
            endings.append(ending)
            found += [f"{' '.join(words)[:200]}: {problem}" for problem in problems(ending, given.serves)]
        found += attempt.left()
    seconds, megabytes = (max(getattr(each, name) for each in endings) for name in ("seconds", "megabytes"))
    return Result(given.name, tuple(found), seconds, megabytes)


def run_apart(attempt: Attempt, words: Sequence[str], given: Input) -> Ending:
    """Run a command in a fork with the bounds of an input; what it prints is kept."""
    said = {name: attempt.root / "said" / name for name in ("out", "err", "notes")}
    for path in said.values():
        path.write_bytes(b"")
    began = time.monotonic()
    pid = os.fork()
    if not pid:
        _become(attempt, said, given, words)
    status, used, late = _wait(pid, began, given.serves)
    try:
        os.killpg(pid, signal.SIGKILL)  # what it has left behind
    except ProcessLookupError:
        pass
    notes = dict.fromkeys(json.loads(line) for line in said["notes"].read_text("utf-8").splitlines())
    return Ending(
        os.waitstatus_to_exitcode(status),
        time.monotonic() - began,
        used.ru_maxrss * _UNIT / 1e6,
        said["out"].read_bytes(),
        said["err"].read_bytes(),
        tuple(notes),
        late,
    )


def _wait(pid: int, began: float, serves: bool) -> tuple[int, resource.struct_rusage, bool]:
    """How the process ended, what it used, and whether it was killed for being late."""
    late = pressed = False
    while True:
        ended, status, used = os.wait4(pid, os.WNOHANG)
        if ended:
            return status, used, late
        passed = time.monotonic() - began
        if serves and passed > 2 and not pressed:
            pressed = True
            os.kill(pid, signal.SIGINT)
        if passed > PATIENCE and not late:
            late = True
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.002 if passed < 0.2 else 0.02)


def _become(attempt: Attempt, said: Mapping[str, Path], given: Input, words: Sequence[str]) -> None:
    """Turn this fork into the process of the input, and never return."""
    code = 70
    try:
        os.setsid()
        for number, source in ((0, os.devnull), (1, said["out"]), (2, said["err"])):
            os.dup2(os.open(source, os.O_RDWR), number)
        sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
        os.chdir(attempt.work)
        os.environ.update(attempt.variables(given))
        tempfile.tempdir = None
        sys.dont_write_bytecode = True
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":
            with open("/proc/self/statm") as file:
                most = int(file.read().split()[0]) * resource.getpagesize() + _STOP
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        notes = os.open(said["notes"], os.O_WRONLY | os.O_APPEND)
        allowed = (attempt.root, *given.lent())
        watch(allowed, given.ports, lambda words: os.write(notes, json.dumps(words).encode() + b"\n"))
        given.run(words)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # noqa: BLE001 - what escapes is what is looked for
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def as_program(words: Sequence[str]) -> None:
    """The program with these words, as its console script calls it."""
    sys.argv = ["run.py", *words]
    program.main()
