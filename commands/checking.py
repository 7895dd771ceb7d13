"""Tries the model behind every agent before a command trains anything."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from learning_signal.agents.model.providers.registry import entry_of
from learning_signal.agents.model.providers.spec import SpecError
from learning_signal.agents.model.specs import parse_chain, parse_spec
from learning_signal.agents.session import usable
from learning_signal.viewer.cli.terminal import err, tell
from learning_signal.viewer.live.keyboard import Keyboard


def refuse_absent(agents: Mapping[str, str], shadows: Mapping[str, str]) -> None:
    """``SpecError`` where an agent is a person and nobody could type: standard input is no terminal.

    A shadow cannot be a person either: it speaks silently.
    """
    if beside := [role for role, text in shadows.items() if entry_of(parse_spec(text)).person]:
        raise SpecError(f"The shadow of the {beside[0]} is human, expected a model: nobody types silently.")
    played = [role for role, text in agents.items() if any(entry_of(each).person for each in parse_chain(text))]
    if played and not Keyboard(err).here:
        raise SpecError(
            f"The {' and the '.join(played)} is to be played by a person, but standard input is no terminal: start the "
            "session at one, or choose another backend."
        )


def refuse_unusable(*every: Mapping[str, str]) -> None:
    """Try the backends of ``every`` session (role -> chain of specs), and tell what they answered.

    Raises ``SpecError`` with one sentence where a whole chain is of no use.
    """
    instead = "choose another with '--agent {role}=SPEC', or leave the check out with --no-check"
    for line in asyncio.run(usable.refuse_unusable(every, instead)):
        tell([line])
