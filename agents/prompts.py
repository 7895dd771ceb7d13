"""Prompts: the Markdown files of ``prompts/``, rendered with strict ``$variables`` and identified by hash."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "prompts"

ROLE_VARIABLES: dict[str, frozenset[str]] = {
    "critic": frozenset({"facts", "behaviour", "steps"}),
    "generator": frozenset({"facts", "behaviour", "steps"}),
    "validator": frozenset({"facts", "gate", "behaviour", "steps"}),
    "coordinator": frozenset({"facts", "gate", "questions", "steps"}),
}
"""The variables of each role's prompt.

``facts``: what no step of the session changes, one JSON object (text). It stands last: what stands before it is the
same in every session, and providers cache it. ``behaviour``: what the tools that look at behaviour tell, or that there
are none (text). ``gate``: how verdicts are computed, with the numbers of this session (text). ``steps``: model calls of
the phase. ``questions``: questions the Coordinator may ask in a round.
"""


class PromptError(ValueError):
    """A prompt that cannot be rendered; the message is one sentence: found, expected, what to do."""


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt; the hashes are the first 16 hexadecimal digits of a SHA-256 of the UTF-8 text."""

    text: str
    hash: str
    template_hash: str


def render(role: str, variables: Mapping[str, object], folder: Path = FOLDER) -> Prompt:
    """The system message of ``role`` with every ``$variable`` replaced by ``str(variables[name])``.

    Raises:
        PromptError: unknown role, missing file, a broken ``$`` in the file, or the variables of the file, of
            ``ROLE_VARIABLES`` and of ``variables`` are not the same.
    """
    expected = ROLE_VARIABLES.get(role)
    if expected is None:
        known = ", ".join(ROLE_VARIABLES)
        raise PromptError(f"Found the prompt {role!r}, expected one of {known}; correct the name.")
    path = folder / f"{role}.md"
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PromptError(
            f"Found no readable prompt file {path.name} ({error.strerror}), expected it beside the package; reinstall."
        ) from None
    template = string.Template(source)
    if not template.is_valid():
        raise PromptError(
            f"Found a $ in {path.name} that starts no variable, expected $name or $$ for a dollar sign; correct it."
        )
    used = set(template.get_identifiers())
    _same(f"the file {path.name} using", used, expected, "make the file and ROLE_VARIABLES agree")
    _same(f"variables for {path.name} named", set(variables), expected, "give exactly these")
    text = template.substitute({name: str(value) for name, value in variables.items()})
    return Prompt(text=text, hash=_hash(text), template_hash=_hash(source))


def _same(what: str, found: set[str], expected: frozenset[str], remedy: str) -> None:
    if found != expected:
        listed = ", ".join(sorted(found)) or "none"
        expected_names = ", ".join(sorted(expected))
        odd = ", ".join(sorted(found ^ expected))
        raise PromptError(f"Found {what} {listed}, expected {expected_names} (differing: {odd}); {remedy}.")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
