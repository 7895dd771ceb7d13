"""Tries the model behind every agent before a command trains anything."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from learning_signal.agents.session import usable
from learning_signal.viewer.cli.terminal import tell


def refuse_unusable(*every: Mapping[str, str]) -> None:
    """Try the backends of ``every`` session (role -> chain of specs), and tell what they answered.

    Raises ``SpecError`` with one sentence where a whole chain is of no use.
    """
    instead = "choose another with '--agent {role}=SPEC', or leave the check out with --no-check"
    for line in asyncio.run(usable.refuse_unusable(every, instead)):
        tell([line])
