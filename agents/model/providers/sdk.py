"""What clients of the vendors' SDKs have in common: guarded HTTP, a model's abilities, and missing packages."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from learning_signal.agents.model.pinned import known_model
from learning_signal.agents.model.providers.spec import BackendSpec, SpecError

if TYPE_CHECKING:  # slow to import, as in entry.py
    from autogen_core.models import ModelInfo

UNKNOWN_MODEL: ModelInfo = {
    "vision": False,
    "function_calling": True,
    "json_output": False,
    "structured_output": False,
    "family": "unknown",
    "multiple_system_messages": False,
}
"""The capabilities assumed of a model that autogen does not know: text and tool calls."""


def http_client(base: type, address: str | None) -> Any:
    """The guarded HTTP client of an SDK (``transport``); ``SpecError`` where the proxy cannot be used."""
    from learning_signal.agents.model.transport import UnusableProxy, guarded_client

    try:
        return guarded_client(base, address)
    except UnusableProxy as error:
        raise SpecError(str(error)) from None


def model_info(family: str, name: str) -> ModelInfo:
    """What a model can do. All are taken to call tools: autogen takes names that it does not know for old models'."""
    return {**(known_model(family, name) or UNKNOWN_MODEL), "function_calling": True}


def hush_autogen() -> None:
    """Leave out what autogen and the SDKs warn of where a reply is not as its types say: ``wire`` has judged it."""
    for message in ("Resolved model mismatch", "Finish reason mismatch", "Pydantic serializer warnings"):
        warnings.filterwarnings("ignore", message=message)


def set_parameters(spec: BackendSpec, names: tuple[str, ...]) -> dict[str, Any]:
    """Those of the named parameters that the spec sets."""
    values = {name: getattr(spec.parameters, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def missing(spec: BackendSpec, extra: str) -> SpecError:
    """The error that the packages of ``extra`` are not installed."""
    return SpecError(
        f"The backend '{spec.text}' needs packages that are not installed; "
        f"run pip install '.[{extra}]' or choose 'rules'."
    )
