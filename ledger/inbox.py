"""The inbox of a session: what persons and programs outside send to it, one JSON line each.

A ledger has one writer, the session. So what comes from outside is appended to a file in the user's state folder
(`ledger.origin`), and the session reads it, records it with who and when, and acts on it. The file lies there and not
beside the ledger, so that a ledger of somebody else brings no answers along.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import json
import os
import re
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.origin import STATE_VARIABLE, state_folder
from learning_signal.ledger.write.clock import now

Kind = Literal["approve", "reject", "say", "propose", "launch"]
REQUESTS: tuple[Kind, ...] = ("propose", "launch")
"""What a session answers: by the id of the letter."""
LONGEST_TEXT = 2000
"""Characters of a sentence, or of a reason."""
LONGEST_PROPOSAL = 16_000
"""Characters of a proposal."""
LARGEST_INBOX = 4_000_000
"""Bytes of an inbox, from which on nothing more is taken."""


@dataclass(frozen=True)
class Letter:
    """One thing that was sent to a session."""

    kind: Kind
    text: str
    """The sentence, or the reason of an answer or of a launch (empty for none); of a proposal its candidates, as JSON
    text."""
    by: str
    """Who sent it: user@host."""
    at: str
    """When, as UTC ISO 8601 text."""
    asked: str | None = None
    """Of an answer: when its question was asked, which tells it from every other question."""
    id: str | None = None
    """Of a request: what its answer is found by."""


def send(ledger: Path, session: str, kind: Kind, text: str, asked: str | None = None, through: str = "") -> Letter:
    """Append a letter to the inbox of a session; ``through`` names the program by which it is sent, if not a shell.

    Raises ``LedgerError`` where the text is empty or too long, or the inbox is full or cannot be written.
    """
    longest = longest_text(kind)
    if len(text) > longest:
        raise LedgerError(f"Found a text of {len(text):,} characters, expected at most {longest:,}: shorten it.")
    if kind == "say" and not text.strip():
        raise LedgerError("Found an empty text, expected what is to be said: write a sentence.")
    by = f"{_user()}@{socket.gethostname()}"
    number = secrets.token_hex(4) if kind in REQUESTS else None
    letter = Letter(kind, text, f"{by} through {through}" if through else by, now(), asked, number)
    line = json.dumps(asdict(letter)).encode("ascii") + b"\n"
    path = _path(ledger, session)
    if path is None:
        raise LedgerError(f"There is no state folder, expected one to send through: set {STATE_VARIABLE} to a folder.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_size + len(line) > LARGEST_INBOX:
                raise LedgerError(f"The inbox {path} is full, expected at most {LARGEST_INBOX:,} bytes: delete it.")
            file.write(line)
    except OSError as error:
        raise LedgerError(
            f"The inbox {path} cannot be written ({error.strerror}), expected a folder of yours: "
            f"set {STATE_VARIABLE} to one, for the session as well."
        ) from error
    return letter


def longest_text(kind: Kind) -> int:
    """How many characters the text of a letter may have."""
    return LONGEST_PROPOSAL if kind == "propose" else LONGEST_TEXT


def letters(ledger: Path, session: str, after: int) -> list[tuple[Letter, int]]:
    """The letters of a session behind byte ``after`` of its inbox, each with the byte at which it ends.

    A line that is no letter is left out, and one that is still being written is read the next time.
    """
    path = _path(ledger, session)
    try:
        if path is None or (size := path.stat().st_size) == after:
            return []
        if size < after:  # it was deleted, and begun anew
            after = 0
        with path.open("rb") as file:
            file.seek(after)
            content = file.read(LARGEST_INBOX)
    except OSError:
        return []
    found = []
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        after += len(line)
        letter = _letter(line)
        if letter is None:
            from loguru import logger  # slow to import, and seldom needed

            logger.warning("a line of {} is no letter and is left out", path)
        else:
            found.append((letter, after))
    return found


def _letter(line: bytes) -> Letter | None:
    try:
        letter = Letter(**json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (letter.text, letter.by, letter.at)
    sound = all(isinstance(each, str) for each in texts) and isinstance(letter.asked, str | None)
    if not sound or letter.kind not in get_args(Kind) or len(letter.text) > longest_text(letter.kind):
        return None
    named = isinstance(letter.id, str) and re.fullmatch("[0-9a-f]{8}", letter.id) is not None
    return letter if named == (letter.kind in REQUESTS) and (named or letter.id is None) else None


def _path(ledger: Path, session: str) -> Path | None:
    """The inbox of a session: two ledgers may hold the same one, so the place of the ledger counts."""
    folder = state_folder()
    name = hashlib.sha256(f"{ledger.resolve()}\n{session}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return None if folder is None else folder / "inbox" / name


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"user {os.getuid()}"
