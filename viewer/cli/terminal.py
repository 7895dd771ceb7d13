"""The output of every command: the two consoles, JSON, log messages, and errors as one sentence."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from learning_signal.viewer.cli.streams import prepare_streams
from learning_signal.viewer.text import clean, visible

BAD_INPUT = 2
"""Exit code of bad input."""
STOPPED = 130
"""Exit code after Ctrl-C."""
PACKAGE = "learning_signal"


class SafeConsole(Console):
    """Prints only the visible characters of any text, so that no view can forget to clean a column.

    Rich's own control codes (colours, the cursor of the live area) are not text and pass.
    """

    goes_on = False
    """Whether what is printed on accompanies work that must not end because nobody reads it any more."""

    def render(self, *arguments: Any, **options: Any) -> Iterable[Segment]:
        """The segments of a renderable: everything that is printed passes here."""
        for segment in super().render(*arguments, **options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """A closed pipe, as after head, is not a failure, although rich makes it one: reading ends, a run goes on."""
        if not self.goes_on:
            raise BrokenPipeError
        silence(self.file)


def console(stream: Any) -> SafeConsole:
    """A console on standard output or standard error; a pipe gets 100 columns unless COLUMNS says otherwise."""
    width = None if stream.isatty() or "COLUMNS" in os.environ else 100
    return SafeConsole(stderr=stream is sys.stderr, highlight=False, width=width)


prepare_streams()
out = console(sys.stdout)
err = console(sys.stderr)


def silence(stream: Any = None) -> None:
    """Discard what is written to a stream (standard output where None) from now on: its reader is gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, (stream or sys.stdout).fileno())
    os.close(nowhere)


def go_on(goes_on: bool) -> None:
    """Whether the command works on where the reader of its output is gone; else that ends it."""
    out.goes_on = err.goes_on = goes_on


def keep_for_json() -> None:
    """Keep standard output for what this program prints: whatever else writes there, such as a user's environment and
    the worker processes, writes to standard error from now on.
    """
    if sys.stdout is not sys.__stdout__ or sys.stdout is None or sys.stdout.fileno() != 1:
        return  # somebody reads it in this process
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    out.file = open(kept, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)  # as long as the process lives


def show_json(data: Any) -> int:
    """Print ``data`` as JSON on standard output; returns the exit code of success."""
    written = json.dumps(data, indent=2, default=str, allow_nan=False)  # ASCII: control characters are escaped
    out.print(written.replace("\x7f", "\\u007f"), markup=False, soft_wrap=True)
    return 0


def plain_data(record: Any) -> Any:
    """Records (or lists of them) as plain data for JSON."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return dataclasses.asdict(record)
    if isinstance(record, list | tuple):
        return [plain_data(each) for each in record]
    return record


def log_to(shown: Console, verbose: bool = False) -> None:
    """Send log messages to ``shown``: above the live area while there is one."""
    from loguru import logger  # a third of the time of --help

    logger.remove()
    logger.add(
        lambda message: shown.print(Text(clean(str(message), lines=True).rstrip(), "dim"), soft_wrap=True),
        level="DEBUG" if verbose else "WARNING",
        diagnose=False,
        backtrace=False,
        format="{level.name}: {message}",
    )


def tell(lines: Sequence[str]) -> None:
    """Print lines on standard error: what a stored session or policy would use."""
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip(" ")))
        err.print(Text(indent + clean(line)), soft_wrap=True)


def show_traceback() -> None:
    """Print the traceback of the exception that is being handled; its text may come from a log as well."""
    err.print(Text(clean(traceback.format_exc(), lines=True).rstrip()), soft_wrap=True)


@contextmanager
def waiting(doing: str) -> Iterator[Callable[[str, float], None]]:
    """Show what is being done; what is given is to be told what is waited for, which is shown from two seconds on."""
    with err.status(doing) as status:

        def told(what: str, seconds: float) -> None:
            status.update(Text(f"{doing}: {clean(what)}, {seconds:.0f} s" if seconds >= 2 else doing))

        yield told


LONGEST_SENTENCE = 1_500
"""Characters of an error that are shown; it may repeat what was found, and that has no bound."""


def fail(sentence: str) -> int:
    """Print one error sentence and return the exit code of bad input; the middle of a very long one is left out."""
    text, half = clean(sentence), LONGEST_SENTENCE // 2
    if len(text) > LONGEST_SENTENCE:
        text = f"{text[:half]} ... ({len(text) - 2 * half:,} characters left out) ... {text[-half:]}"
    err.print(Text.assemble(("error: ", "bold red"), text), soft_wrap=True)
    return BAD_INPUT


def for_a_user(error: Exception) -> str | None:
    """The one sentence of an error a user can meet, or None for a fault of the program.

    Exceptions of this project are written for users; of the system's, those about files are.
    """
    if type(error).__module__.partition(".")[0] == PACKAGE:
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The disk is full; everything committed is kept: free some space, then resume the session."
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # what Path.resolve raises up to 3.12
        return f"{str(error).partition(' from ')[2]} is a link that leads back to itself: check the path."
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} cannot be used ({(error.strerror or 'unknown reason').lower()}): check the path."
    return None
