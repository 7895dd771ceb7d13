"""Backend specs: their grammar, and which spec each agent gets. Does not import autogen."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, ValidationError

from learning_signal.agents.model.providers.address import checked_address
from learning_signal.agents.model.providers.entry import ProviderEntry
from learning_signal.agents.model.providers.registry import PROVIDERS, entry_of
from learning_signal.agents.model.providers.spec import BackendSpec, Parameters, SpecError
from learning_signal.tools.roles import ROLES

DEFAULT_SPEC = "rules"
ENVIRONMENT_PREFIX = "LEARNING_SIGNAL_AGENT_"
GRAMMAR = "provider/model[@base_url][?key=value&...]"
_EXAMPLE = "ollama/qwen3:8b"


class ResolvedSpec(BaseModel):
    """The chain of backends an agent got, and where it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    """The chain as it was given."""
    chain: tuple[BackendSpec, ...]
    source: Literal["command line", "environment", "config file", "default"]


def parse_spec(text: str) -> BackendSpec:
    """The spec written as ``provider/model[@base_url][?key=value&...]``.

    Raises:
        SpecError: what was found, what is expected, and an example. Never repeats what may be a key.
    """
    given = text.strip()
    if not given:
        raise SpecError(f"The backend spec is empty; expected {GRAMMAR}, e.g. '{_EXAMPLE}' or 'rules'.")
    head, question, tail = given.partition("?")
    name, at, base_url = _split_address(head)
    provider, separator, model = _split_name(name)
    if provider not in PROVIDERS:
        raise SpecError(
            f"'{_shown(provider)}' is no backend provider{_did_you_mean(provider, PROVIDERS)}; "
            f"expected one of {', '.join(PROVIDERS)}, as in '{_EXAMPLE}'."
        )
    entry = PROVIDERS[provider]
    if entry.model == "none":
        if separator or at:
            raise SpecError(f"The backend '{provider}' takes no model and no address; write just '{provider}'.")
        model = provider
    if not model or re.search(r"\s", model):
        raise SpecError(
            f"The backend spec '{_shown(name)}' names no usable model; expected {GRAMMAR}, e.g. '{entry.example}'."
        )
    if at and entry.address_in == "none":
        raise SpecError(f"The backend '{provider}' takes no address; write e.g. '{entry.example}'.")
    if not at and entry.address_in == "needed":
        raise SpecError(
            f"The backend spec '{_shown(name)}' names no server; write its address after '@', e.g. '{entry.example}'."
        )
    parameters = _parse_parameters(tail, entry) if question else Parameters()
    return BackendSpec(
        provider=provider,
        model=model,
        base_url=checked_address(base_url) if at else None,
        parameters=parameters,
        text=given,
    )


def parse_chain(text: str) -> tuple[BackendSpec, ...]:
    """The specs of a chain, written ``spec|spec|...``: where one fails for good or gives up, the next takes over.

    ``spec?fallback=rules`` is another spelling of ``spec|rules``.

    Raises:
        SpecError: as ``parse_spec``; also a spec that stands twice, or behind one that cannot fail.
    """
    chain = [parse_spec(part) for part in text.split("|")]
    fallbacks = [spec.parameters.fallback for spec in chain]
    if fallbacks[-1] is not None:
        chain.append(parse_spec(fallbacks[-1]))
    if any(fallbacks[:-1]):
        raise SpecError("A chain of backends names the next after '|': leave 'fallback' out of the specs before it.")
    for place, spec in enumerate(chain[:-1]):
        if entry_of(spec).embedded and not entry_of(spec).fails:
            raise SpecError(f"The backend '{spec.text}' never fails, so it must be the last of its chain.")
        if spec.text in [other.text for other in chain[place + 1 :]]:
            raise SpecError(f"The backend '{_shown(spec.text)}' stands twice in its chain; name each once.")
    return tuple(chain)


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """``ROLE=SPEC`` texts of the command line as ``{role or "all": spec text}``.

    Raises:
        SpecError: a text without '=', an unknown role, or a role given twice.
    """
    found: dict[str, str] = {}
    for text in assignments:
        role, equals, spec = text.partition("=")
        role = role.strip()
        if not equals or "/" in role or "?" in role:
            raise SpecError(
                f"'{_shown(text)}' assigns no backend to an agent; expected ROLE=SPEC, e.g. 'critic={_EXAMPLE}'."
            )
        _check_role(role, (*ROLES, "all"), "on the command line")
        if role in found:
            raise SpecError(f"The agent '{role}' is given two backends on the command line; give it one.")
        found[role] = spec
    return found


def resolve_specs(
    command_line: Mapping[str, str], environment: Mapping[str, str], config: Mapping[str, Any]
) -> dict[str, ResolvedSpec]:
    """The spec of every role: command line > environment > config file > ``rules``.

    Args:
        command_line: ``{role or "all": spec}``, as ``parse_assignments`` returns it.
        environment: the process environment; ``LEARNING_SIGNAL_AGENT_CRITIC`` ... and ``_DEFAULT`` are read.
        config: the ``[agents]`` table of the config file, ``{role or "default": spec}``.

    Within one source the role's own entry comes before the one for all roles.

    Raises:
        SpecError: an unknown role or a wrong spec, with the place it came from.
    """
    for role in command_line:
        _check_role(role, (*ROLES, "all"), "on the command line")
    from_environment: dict[str, str] = {}
    for variable, value in environment.items():
        if variable.startswith(ENVIRONMENT_PREFIX) and value.strip():  # an empty variable is none
            role = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
            _check_role(role, (*ROLES, "default"), f"in the environment variable {variable}")
            from_environment[role] = value
    for role, value in config.items():
        _check_role(role, (*ROLES, "default"), "in [agents] of the config file")
        if not isinstance(value, str):
            raise SpecError(
                f"[agents] {role} in the config file is {value!r}; expected a backend spec as text, "
                f'e.g. {role} = "{_EXAMPLE}".'
            )
    sources = (
        ("command line", command_line, "all"),
        ("environment", from_environment, "default"),
        ("config file", config, "default"),
        ("default", {"default": DEFAULT_SPEC}, "default"),
    )
    return {role: _resolve(role, sources) for role in ROLES}


def parse_shadows(assignments: Iterable[str]) -> dict[str, str]:
    """``ROLE=SPEC`` texts of ``--shadow`` as ``{role: spec text}``; ``all`` is every role.

    Raises:
        SpecError: as ``parse_assignments`` and ``shadows_of``.
    """
    return shadows_of(parse_assignments(assignments))


def shadows_of(given: Mapping[str, str]) -> dict[str, str]:
    """``{role or "all": spec text}`` as ``{role: spec text}``, for backends that are asked beside the agents'.

    Raises:
        SpecError: an unknown role, a wrong spec, one that cannot play the role, a chain, or a person: a shadow speaks
            silently.
    """
    for role in given:
        _check_role(role, (*ROLES, "all"), "as a shadow")
    found: dict[str, str] = {
        role: given[role if role in given else "all"] for role in ROLES if {role, "all"} & set(given)
    }
    for role, text in found.items():
        chain = parse_chain(text)
        if len(chain) > 1:
            raise SpecError(
                f"The shadow of the {role} is a chain of {len(chain)} backends, expected one: give one spec."
            )
        if entry_of(chain[0]).person:
            raise SpecError(f"The shadow of the {role} is human, expected a model: nobody types silently.")
        refuse_role(chain[0], role)
    return found


def refuse_role(spec: BackendSpec, role: str) -> None:
    """``SpecError`` where the backend cannot play this role."""
    roles = entry_of(spec).roles
    if role not in roles:
        raise SpecError(
            f"The backend '{spec.provider}' is for the {' and the '.join(roles)} alone and not for the {role}; write "
            f"{roles[0]}={spec.provider}."
        )


def _resolve(role: str, sources: Iterable[tuple[str, Mapping[str, str], str]]) -> ResolvedSpec:
    for source, specs, for_all in sources:
        for key in (role, for_all):
            if key in specs:
                try:
                    text = specs[key].strip()
                    chain = parse_chain(text)
                    for spec in chain:
                        refuse_role(spec, role)
                    return ResolvedSpec(text=text, chain=chain, source=source)
                except SpecError as error:
                    raise SpecError(f"Backend of the {role} ({source}): {error}") from None
    raise AssertionError("the default gives every role a spec")


def _check_role(role: str, known: tuple[str, ...], where: str) -> None:
    if role not in known:
        raise SpecError(
            f"'{_shown(role)}' {where} is no agent{_did_you_mean(role, known)}; expected one of {', '.join(known)}."
        )


def _split_name(name: str) -> tuple[str, str, str]:
    """Provider, separator and model of ``provider/model`` or ``provider:model``: the first of the two separates."""
    match = re.search(r"[/:]", name)
    return (name, "", "") if match is None else (name[: match.start()], match[0], name[match.end() :])


def _split_address(head: str) -> tuple[str, bool, str]:
    """``name@http://...`` split at the '@' in front of the scheme."""
    match = re.search(r"@(?=[A-Za-z][A-Za-z0-9+.-]*://)", head)
    if match:
        return head[: match.start()], True, head[match.end() :]
    if "@" in head:
        name = head.partition("@")[0]
        raise SpecError(
            f"What follows '{_shown(name)}@' is no address; expected http://host:port/v1 or https://host/v1, "
            f"e.g. '{PROVIDERS['openai-api'].example}'."
        )
    return head, False, ""


def _parse_parameters(text: str, entry: ProviderEntry) -> Parameters:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise SpecError("The part of a backend spec after '?' must read key=value&key=value.") from None
    pairs = [(name.replace("-", "_"), value) for name, value in pairs]
    values = dict(pairs)
    known = [name for name in Parameters.model_fields if name in entry.parameters]
    if len(values) != len(pairs):
        raise SpecError("A parameter of the backend spec is given twice; give each at most once.")
    for name in values:
        if name not in known:
            looks_like_key = name.lower() in ("api_key", "apikey", "key", "token")
            advice = (
                "keys come from environment variables only (api_key_env=NAME names another one)"
                if looks_like_key
                else f"known parameters: {', '.join(known) or 'none'}"
            )
            raise SpecError(
                f"'{_shown(name)}' is no parameter of the backend '{entry.name}'{_did_you_mean(name, known)}; {advice}."
            )
    try:
        parameters = Parameters.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])
        found = "that value" if name == "api_key_env" else repr(values[name])
        raise SpecError(f"The backend parameter '{name}' cannot be {found}: {_lower(first['msg'])}.") from None
    timeout, deadline, loading = parameters.timeout, parameters.deadline, parameters.first_timeout
    if loading is not None and timeout is not None and loading < timeout:
        raise SpecError(
            f"The backend parameter 'first_timeout' is {loading:g}, expected at least the 'timeout' of {timeout:g} "
            "that every later attempt has: raise it, or leave it out."
        )
    if timeout is not None and deadline is not None and timeout > deadline:
        raise SpecError(
            f"The backend parameter 'timeout' is {timeout:g}, expected at most the 'deadline' of {deadline:g}, which "
            "ends every attempt: raise the deadline, or leave it out."
        )
    return parameters


def _did_you_mean(found: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(found, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _shown(text: str) -> str:
    """``text`` short enough for a sentence."""
    return text if len(text) <= 60 else text[:57] + "..."


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
