"""A parsed backend spec: which model of which provider, at which address, with which parameters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class SpecError(ValueError):
    """A backend spec, or what it needs, is wrong: one sentence with what was found and what to do."""


class Parameters(BaseModel):
    """The parameters after '?'. None is the server's default (for the limits, the guard's)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Sampling temperature."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Nucleus sampling mass."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longest reply in tokens."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Sampling seed, for servers that take one."""
    context: Annotated[int, Field(ge=2048, le=2**24)] | None = None
    """Tokens of the model's context window: a larger request is fitted into it; Ollama opens one of this size."""
    reasoning_effort: Annotated[str, Field(pattern=r"^[A-Za-z]{1,20}$")] | None = None
    """How much a reasoning model may think, in its server's word (none, low, xhigh)."""
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Seconds one attempt may take."""
    first_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Seconds one attempt at the first answer may take, for a server that loads its model first; the deadline of that
    answer is at least as long."""
    deadline: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Seconds one answer may take, all attempts and waits together."""
    attempts: Annotated[int, Field(ge=1, le=20)] | None = None
    """Attempts at one answer when the server or its reply is at fault."""
    api_version: Annotated[str, Field(pattern=r"^[0-9A-Za-z.-]{1,40}$")] | None = None
    """The ``api-version`` that Azure wants in the query of its addresses."""
    fallback: Literal["rules"] | None = None
    """What takes over the phases of a round in which this backend gives up or fails."""
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """Name of the environment variable that holds the key; which ones may, ``agents.model.keys`` says."""


ALL_PARAMETERS = frozenset(Parameters.model_fields)


class BackendSpec(BaseModel):
    """One parsed spec: the model behind an agent, and its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: str
    """A name of the registry."""
    model: str
    """Model name sent to the server; the session id for ``replay``; an embedded backend's own name."""
    base_url: str | None = None
    """Address of the server, where the spec names one."""
    parameters: Parameters = Parameters()
    text: str
    """The spec as it was given."""
