"""Keys of backends: which environment variables may hold one, what one must look like, and which one a spec has."""

from __future__ import annotations

import re
import unicodedata
from base64 import b64encode
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from learning_signal.agents.model.providers.registry import entry_of
from learning_signal.agents.model.providers.spec import BackendSpec, SpecError
from learning_signal.ledger.write.redaction import SHORTEST_CERTAIN_SECRET

DECLARED = "LEARNING_SIGNAL_KEY_VARIABLES"
"""The environment variable in which a user declares further key variables, separated by commas.

Only the user's own environment can widen the rule: a spec, which may come from a received log, never does.
"""
TOKENS = (
    "ANTHROPIC_AUTH_TOKEN",
    "HF_TOKEN",
    "HUGGINGFACEHUB_API_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "REPLICATE_API_TOKEN",
)
"""Variables of model providers that do not end in _API_KEY."""
PLACEHOLDERS = frozenset(
    {"dummy", "empty", "lm-studio", "no-key", "none", "not-needed", "ollama", "sk-no-key-required", "token-abc123"}
)
"""Placeholders that the manuals of servers without keys (vLLM, llama.cpp, LM Studio, Ollama) suggest; case is ignored.

They are not secrets: they are sent as they are and never redacted, because they may be ordinary words.
"""
_API_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*_API_KEY")


def refused_variable(name: str, environment: Mapping[str, str]) -> str | None:
    """Why no key is read from the variable ``name``, as one sentence; None where one may be."""
    declared = [variable.strip() for variable in environment.get(DECLARED, "").split(",")]
    if _API_KEY.fullmatch(name) or name in TOKENS or name in declared:
        return None
    return (
        f"'api_key_env' names the environment variable {name}, expected one made for the key of a model (NAME_API_KEY, "
        f"or one of {', '.join(TOKENS)}): put the key of that server into such a variable, or declare one of yours in "
        f"{DECLARED}."
    )


def is_placeholder(key: str) -> bool:
    """Whether ``key`` is a placeholder for no key."""
    return key.lower() in PLACEHOLDERS


def refused_key(key: str, variable: str) -> str | None:
    """Why ``key`` cannot be used, as one sentence that does not repeat it; None where it can."""
    for place, character in enumerate(key, start=1):
        if not "!" <= character <= "~":
            name = unicodedata.name(character, "")
            found = f"U+{ord(character):04X}" + (f", {name.lower()}" if name else "")
            return (
                f"The environment variable {variable} holds a key whose character {place} is no visible ASCII "
                f"({found}), expected only such characters: copy the key anew and set the variable again."
            )
    if len(key) < SHORTEST_CERTAIN_SECRET and not is_placeholder(key):
        return (
            f"The environment variable {variable} holds a key of fewer than {SHORTEST_CERTAIN_SECRET} characters, "
            "expected more: one so short looks like a word and cannot be redacted from the log; give the server "
            "a longer key, or set the variable to 'none' where it asks for none."
        )
    return None


def key_variable(spec: BackendSpec) -> str | None:
    """The environment variable that holds the key of ``spec``, or None for a backend that takes no key."""
    if spec.parameters.api_key_env:
        return spec.parameters.api_key_env
    entry = entry_of(spec)
    return _named_after(spec.model) if entry.key_of_model else entry.key


def read_key(spec: BackendSpec, environment: Mapping[str, str]) -> str | None:
    """The key of ``spec`` from ``environment``, or None where the backend works without one.

    Raises:
        SpecError: a key is needed and its variable is not set, or not made for keys, or what it holds is no usable
            key; the sentence names the variable and never the key.
    """
    variable = key_variable(spec)
    if variable is None:
        return None
    refused = refused_variable(variable, environment)
    if refused is not None:
        raise SpecError(refused)
    key = environment.get(variable, "").strip(" ")
    if key:
        refused = refused_key(key, variable)
        if refused is not None:
            raise SpecError(refused)
        return key
    if entry_of(spec).key_needed or spec.parameters.api_key_env:
        raise SpecError(
            f"The backend '{spec.text}' needs a key and the environment variable {variable} is not set; "
            f"set it (export {variable}=...) or choose another backend, e.g. 'rules'."
        )
    return None


def read_secrets(spec: BackendSpec, environment: Mapping[str, str]) -> tuple[str, ...]:
    """What must never be written of a backend: its key, unless it is only a placeholder for one, and the passwords of
    the proxies that it may be reached through.

    Raises:
        SpecError: as ``read_key``.
    """
    key = read_key(spec, environment)
    keys = () if key is None or is_placeholder(key) else (key,)
    return keys if entry_of(spec).embedded else (*keys, *_of_proxies(environment))


def _of_proxies(environment: Mapping[str, str]) -> Iterator[str]:
    """The passwords in the variables of proxies, as they are written, as they are meant, and as they are sent."""
    for name, address in environment.items():
        if name.lower() not in ("http_proxy", "https_proxy", "all_proxy") or "@" not in address:
            continue
        user, colon, password = address.partition("://")[2].rpartition("@")[0].partition(":")
        if colon:
            sent = f"{unquote(user)}:{unquote(password)}".encode()
            yield from {password, unquote(password), b64encode(sent).decode()}


def _named_after(model: str) -> str:
    """``LAB_QWEN3_8B_API_KEY`` for ``lab/Qwen3-8B``; a variable that any shell can set, whatever the model's name."""
    name = re.sub(r"[^A-Z0-9]+", "_", model.upper()).strip("_")
    return "_".join(part for part in ("" if name[:1].isalpha() else "MODEL", name, "API_KEY") if part)
