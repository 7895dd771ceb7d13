"""Tries the model behind every agent before anything is trained."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from learning_signal.agents.model.call import Limits
from learning_signal.agents.model.providers.registry import EMBEDDED
from learning_signal.agents.model.providers.spec import SpecError
from learning_signal.agents.model.specs import parse_spec
from learning_signal.agents.model.trial import CheckResult, check
from learning_signal.viewer.cli.terminal import tell


def refuse_unusable(agents: Mapping[str, str]) -> None:
    """Ask every backend in ``agents`` (role -> spec) for one tiny tool call; embedded ones need none.

    Raises ``SpecError`` with one sentence on the first that gives none.
    """
    roles: dict[str, list[str]] = {}
    for role, text in agents.items():
        if parse_spec(text).provider not in EMBEDDED:
            roles.setdefault(text, []).append(role)
    for text, result in zip(roles, asyncio.run(_checked(list(roles))), strict=True):
        whose = " and ".join(roles[text])
        if not result.ok:
            raise SpecError(
                f"The backend of the {whose} failed its check: {result.sentence.rstrip('.')}; choose another with "
                f"'--agent {roles[text][0]}=SPEC', or leave the check out with --no-check."
            )
        tell([f"{whose}: {result.sentence}"])


async def _checked(specs: list[str]) -> list[CheckResult]:
    """All at once, each with the time that a first attempt of a session has: a server may load its model first."""
    return await asyncio.gather(*(check(parse_spec(text), timeout=Limits().timeout) for text in specs))
