"""Makes the ids of tool calls."""

from __future__ import annotations

import hashlib
import string

from autogen_core import FunctionCall
from autogen_core.models import CreateResult


def with_own_ids(result: CreateResult, request: str) -> CreateResult:
    """``result`` with tool-call ids derived from ``request``, the text or hash of the request: unique in a session
    whatever ids the model uses, and equal when the request is repeated. They identify a call that has been carried out.

    Nine letters and digits, because some servers (Mistral's) refuse a history with any other ids.
    """
    if isinstance(result.content, str):
        return result
    calls = [
        FunctionCall(id=own_id(request, index), name=call.name, arguments=call.arguments)
        for index, call in enumerate(result.content)
    ]
    return result.model_copy(update={"content": calls})


def own_id(request: str, index: int) -> str:
    """The id of the call at place ``index`` of the reply to ``request``."""
    alphabet = string.digits + string.ascii_letters
    number, letters = int(hashlib.sha256(f"{request}|{index}".encode()).hexdigest(), 16), ""
    for _ in range(9):
        number, place = divmod(number, len(alphabet))
        letters += alphabet[place]
    return letters
