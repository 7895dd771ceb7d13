"""Tries the model behind every agent before anything is trained."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from learning_signal.agents.model.call import Limits
from learning_signal.agents.model.providers.registry import EMBEDDED
from learning_signal.agents.model.providers.spec import BackendSpec, SpecError
from learning_signal.agents.model.specs import parse_chain
from learning_signal.agents.model.trial import CheckResult, check
from learning_signal.tools.plan.settings import DeliberationSettings
from learning_signal.viewer.cli.terminal import tell


def refuse_unusable(agents: Mapping[str, str]) -> None:
    """Ask every backend in ``agents`` (role -> chain of specs) for one tiny tool call; embedded ones need none.

    Raises ``SpecError`` with one sentence where a whole chain gives none. A part of one that gives none is told.
    """
    chains = {role: parse_chain(text) for role, text in agents.items()}
    specs = {spec.text: spec for chain in chains.values() for spec in chain if spec.provider not in EMBEDDED}
    results = dict(zip(specs, asyncio.run(_checked(list(specs.values()))), strict=True))
    for text, result in results.items():
        roles = [role for role, chain in chains.items() if text in [spec.text for spec in chain]]
        if not result.ok and any(_all_failed(chains[role], results) for role in roles):
            raise SpecError(
                f"The backend of the {' and '.join(roles)} failed its check: {result.sentence.rstrip('.')}; choose "
                f"another with '--agent {roles[0]}=SPEC', or leave the check out with --no-check."
            )
        beside = "" if result.ok else " Another of its chain answers."
        tell([f"{' and '.join(roles)}: {result.sentence}{beside}"])


def _all_failed(chain: Sequence[BackendSpec], results: Mapping[str, CheckResult]) -> bool:
    return all(spec.text in results and not results[spec.text].ok for spec in chain)


async def _checked(specs: Sequence[BackendSpec]) -> list[CheckResult]:
    """All at once, each with the time that a first answer of a session has: a server may load its model first."""
    first = DeliberationSettings().deadline
    limits = [Limits(first_timeout=first, deadline=first).with_spec(spec) for spec in specs]
    seconds = [limit.attempt(first=True)[1] for limit in limits]
    return await asyncio.gather(*(check(spec, timeout=most) for spec, most in zip(specs, seconds, strict=True)))
