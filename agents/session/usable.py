"""Tries the model behind every agent before anything is trained."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from learning_signal.agents.model.call import Limits
from learning_signal.agents.model.providers.registry import EMBEDDED
from learning_signal.agents.model.providers.spec import BackendSpec, SpecError
from learning_signal.agents.model.specs import parse_chain
from learning_signal.agents.model.trial import CheckResult, check
from learning_signal.tools.plan.settings import DeliberationSettings


async def refuse_unusable(every: Iterable[Mapping[str, str]], instead: str) -> list[str]:
    """Ask every backend for one tiny tool call, each once; embedded ones need none. Returns what they answered.

    Args:
        every: of each session to come, the chain of specs by role.
        instead: what to do where a whole chain fails; ``{role}`` stands for the first role that has it.

    Raises ``SpecError`` with one sentence where a whole chain gives none. A part of one that gives none is told.
    """
    chains = [(role, parse_chain(text)) for agents in every for role, text in agents.items()]
    specs = {spec.text: spec for _, chain in chains for spec in chain if spec.provider not in EMBEDDED}
    results = dict(zip(specs, await _checked(list(specs.values())), strict=True))
    told = []
    for text, result in results.items():
        having = [(role, chain) for role, chain in chains if text in [spec.text for spec in chain]]
        roles = list(dict.fromkeys(role for role, _ in having))
        if not result.ok and any(_all_failed(chain, results) for _, chain in having):
            found = f"The backend of the {' and '.join(roles)} failed its check: {result.sentence.rstrip('.')}"
            raise SpecError(f"{found}; {instead.format(role=roles[0])}.")
        beside = "" if result.ok else " Another of its chain answers."
        told.append(f"{' and '.join(roles)}: {result.sentence}{beside}")
    return told


def _all_failed(chain: Sequence[BackendSpec], results: Mapping[str, CheckResult]) -> bool:
    return all(spec.text in results and not results[spec.text].ok for spec in chain)


async def _checked(specs: Sequence[BackendSpec]) -> list[CheckResult]:
    """All at once, each with the time that a first answer of a session has: a server may load its model first."""
    first = DeliberationSettings().deadline
    limits = [Limits(first_timeout=first, deadline=first).with_spec(spec) for spec in specs]
    seconds = [limit.attempt(first=True)[1] for limit in limits]
    return await asyncio.gather(*(check(spec, timeout=most) for spec, most in zip(specs, seconds, strict=True)))
