"""The uses of a stored session that is resumed: its agents' backends, its task, its store."""

from __future__ import annotations

from learning_signal.agents.model.keys import key_variable
from learning_signal.agents.model.providers.registry import EMBEDDED
from learning_signal.agents.model.providers.spec import BackendSpec
from learning_signal.agents.model.specs import parse_chain
from learning_signal.ledger.read.reader import Reader
from learning_signal.marl.paths import inside
from learning_signal.tools.consent import Consent, Use, uses_of_executor, uses_of_store, uses_of_task
from learning_signal.tools.plan.settings import SessionSettings


def uses_of_session(reader: Reader, session: str, settings: SessionSettings, consent: Consent) -> list[Use]:
    """Everything that a resume with ``settings`` would use; ``OutsideFolder`` where the session's id is a path."""
    of = f"session {session}"
    return [
        *(use for role, spec in settings.agents.items() for use in _contact(role, spec, consent)),
        *uses_of_executor(settings.executor, consent),
        *uses_of_task(settings.run.task, consent, of),
        *uses_of_store(settings.store, consent, of),
        Use("write", f"the log to {reader.path}"),
        Use("write", f"the policy and its shaping to {inside(reader.path.parent, session)}"),
    ]


def _contact(role: str, text: str, consent: Consent) -> list[Use]:
    option = None if role in consent.agents else f"--agent {role}=SPEC"
    return [
        Use("contact", f"{_where(spec)} for the {role} ({spec.provider}/{spec.model}), {_key(spec)}", option)
        for spec in parse_chain(text)
        if spec.provider not in EMBEDDED
    ]


def _where(spec: BackendSpec) -> str:
    return spec.base_url or f"the usual address of {spec.provider}"


def _key(spec: BackendSpec) -> str:
    variable = key_variable(spec)
    return "without a key" if variable is None else f"with the key in {variable} where that is set"
