"""The check of an environment in a process of its own: nothing in a user's code can end, hang or overprint this one.

    python -m learning_signal.marl.tasks.foreign.apart PIPE NAME EPISODES

is that process: it writes a line of JSON to the pipe with this number before every call of the user's code, and one
with the result. What it prints is kept in a file. It ends when its standard input does, which is when its parent has.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import IO, Any

from learning_signal.marl.processes import cause_of_death, one_thread_environment
from learning_signal.marl.tasks.foreign.checked_episode import Finding

PATIENCE = 60.0
"""Seconds that one call of the user's code may take."""
_KEPT = 4_000
"""Bytes of the end of what it printed."""

OnCall = Callable[[str, float], None]
"""Told what is called, and for how many seconds so far."""


Found = tuple[tuple[Finding, ...], dict[str, Any] | None]
"""The findings, and the declaration of the task or None."""


@dataclass(frozen=True)
class Checked:
    """What a check in a process of its own found."""

    findings: tuple[Finding, ...]
    """Errors first."""
    task: dict[str, Any] | None
    """The declaration of the task that the environment makes, as JSON data; None where it cannot be trained on."""
    printed: tuple[str, ...]
    """The last lines that its code printed."""


def check_apart(name: str, episodes: int, patience: float = PATIENCE, on_call: OnCall | None = None) -> Checked:
    """``check_environment(name, episodes)`` in a process of its own.

    A process that ends by itself is an error among the findings, and so is a call that takes longer than ``patience``
    seconds.
    """
    receiver, sender = os.pipe()
    with tempfile.TemporaryFile() as output, open(receiver, "rb", buffering=0) as pipe:
        command = [sys.executable, "-m", __spec__.name, str(sender), name, str(episodes)]
        with one_thread_environment():
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))}
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=[sender],
                start_new_session=True,
            )
        os.close(sender)
        try:
            findings, task = _listen(name, process, pipe, patience, on_call)
        finally:
            _end(process)
        printed = _last_lines(output)
    return Checked(findings, task, printed)


def _listen(
    name: str, process: subprocess.Popen[bytes], pipe: IO[bytes], patience: float, on_call: OnCall | None
) -> Found:
    """The result that the process sends, or one that says why there is none."""
    what, began, buffer = "the import of its module", time.monotonic(), b""
    while True:
        ready, _, _ = select.select([pipe], [], [], 0.2)
        waited = time.monotonic() - began
        if ready:
            received = pipe.read(65_536)
            if not received:
                cause = cause_of_death(process.wait())
                return _failed(
                    "process",
                    f"{what} of {name} ended the process ({cause}), expected an answer: look for os._exit or a crash "
                    "there.",
                )
            *lines, buffer = (buffer + received).split(b"\n")
            for line in lines:
                try:
                    message = json.loads(line)
                    if "findings" in message:
                        return _result(message)
                    if "fault" in message:
                        return _failed(
                            "program",
                            f"The check of {name} failed after {what} ({message['fault']}): that is a fault of this "
                            "program, please report it.",
                        )
                    what, began = message["call"], time.monotonic()
                except (ValueError, TypeError, KeyError):
                    return _failed(
                        "process",
                        f"{what} of {name} wrote into a file that it did not open, expected only files of its own: "
                        "look for os.write or os.fdopen there.",
                    )
        elif waited > patience:
            return _failed(
                "time",
                f"{what} of {name} has not come back within {patience:g} s, expected an answer: look for a loop or a "
                "wait there, or give it more time with 'check-env --patience SECONDS'.",
            )
        if on_call is not None:
            on_call(what, waited)


def _result(message: dict[str, Any]) -> Found:
    return tuple(Finding(**each) for each in message["findings"]), message["task"]


def _failed(check: str, message: str) -> Found:
    return (Finding("error", check, message),), None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and whatever it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _last_lines(output: IO[bytes]) -> tuple[str, ...]:
    end = output.seek(0, os.SEEK_END)
    output.seek(max(end - _KEPT, 0))
    return tuple(output.read().decode("utf-8", "replace").splitlines())


def _serve(pipe: int, name: str, episodes: int) -> None:
    """The process: check, and tell."""
    from learning_signal.marl.tasks import make_task
    from learning_signal.marl.tasks.foreign.contract import check_environment
    from learning_signal.marl.tasks.foreign.declaration import at
    from learning_signal.marl.tasks.foreign.own_code import watch

    threading.Thread(target=_leave_with_parent, name="leave-with-parent", daemon=True).start()

    def tell(message: dict[str, Any]) -> None:
        os.write(pipe, json.dumps(message).encode() + b"\n")

    watch(lambda what, moment: tell({"call": f"{what}{at(moment)}"}))
    try:
        findings = check_environment(name, episodes)
        wrong = any(each.level == "error" for each in findings)
        task = None if wrong else asdict(make_task(name, 1).spec)
        tell({"findings": [asdict(each) for each in findings], "task": task})
    except Exception as error:  # noqa: BLE001 - what a user's code can raise is a finding: this is ours
        traceback.print_exc()
        tell({"fault": f"{type(error).__name__}: {error}"[:300]})
    os._exit(0)  # whatever threads the environment has left


def _leave_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
