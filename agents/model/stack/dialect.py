"""The layer that knows what its server wants back, and in which form it wants to be asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from autogen_core.models import CreateResult

from learning_signal.agents.call_ids import own_id
from learning_signal.agents.model.call import Call, Caller
from learning_signal.agents.model.dialect.carried import Carried
from learning_signal.agents.model.dialect.manner import REFUSALS, Manner, wanted
from learning_signal.agents.model.dialect.outgoing import Outgoing
from learning_signal.agents.model.errors import BackendError
from learning_signal.agents.model.providers.registry import EMBEDDED
from learning_signal.agents.model.stack.layers import Layer
from learning_signal.ledger.write.recall import RecordedReply, recall_replies

_CARRIED, _MANNER = '"carried"', '"manner"'
"""What the JSON of a reply contains that has such a field."""


class Dialect:
    """Gives every request what its model sent before and wants back, read from the ledger: so a resume has it too.

    A server that refuses the form of a request is asked once more in the form that its sentence names, and so from then
    on, also after a resume: a reply is recorded with the manner that it was asked in.
    """

    def __init__(self, below: Layer, caller: Caller):
        self._below, self._caller = below, caller
        self._manner: Manner | None = None
        """How its server wants to be asked; None until the ledger has been asked for it."""
        self._carried: dict[str, Carried] = {}
        self._read_to = 0

    async def answer(self, call: Call) -> CreateResult:
        """The reply of the layer below. Raises its ``BackendError``."""
        spec = self._caller.spec
        if spec.provider in EMBEDDED:
            return await self._below.answer(call)
        self._recall()
        manner = self._manner or self._known_manner()
        tried = {manner}
        while True:
            try:
                result = await self._below.answer(replace(call, outgoing=Outgoing(self._carried, manner)))
            except BackendError as error:
                other = None
                if error.status in REFUSALS:
                    other = wanted(manner, error.words, call.messages, spec.parameters.max_tokens is not None)
                if other is None or other in tried:
                    raise
                manner = other
                tried.add(manner)
                continue
            self._manner = manner
            return result

    def _known_manner(self) -> Manner:
        """How the server took its last request before this process that it did not take the plain way."""
        caller = self._caller
        manner = Manner()
        for each in recall_replies(caller.ledger, caller.session, caller.name, 0, _MANNER):
            known = json.loads(each.reply).get("manner")  # None where the word is the model's own
            if known is not None and _model(each.spec) == _model(caller.spec.text):
                manner = Manner(**known)
        return manner

    def _recall(self) -> None:
        """Read what replies carried that came since the last request."""
        caller = self._caller
        for each in recall_replies(caller.ledger, caller.session, caller.name, self._read_to, _CARRIED):
            self._carried |= _carried(each, own=_model(each.spec) == _model(caller.spec.text))
            self._read_to = each.id


def _carried(recorded: RecordedReply, *, own: bool) -> dict[str, Carried]:
    """What goes back with a recorded reply, by the id of its first call as the conversation has it, or by its text.

    Where it is not the server's ``own``, nothing but the text beside the calls.
    """
    reply: Mapping[str, Any] = json.loads(recorded.reply)
    if "carried" not in reply:  # the word is the model's own
        return {}
    carried, content = Carried.model_validate(reply["carried"]), reply["content"]
    if isinstance(content, str):
        return {content: carried} if own else {}
    ids = [own_id(recorded.request_hash, place) for place in range(len(content))]
    if not own:
        return {ids[0]: Carried(text=carried.text)}
    calls = {each: carried.calls.get(call["id"], {}) for each, call in zip(ids, content, strict=True)}
    return {ids[0]: carried.model_copy(update={"calls": calls})}


def _model(spec: str) -> str:
    """A spec without its parameters: which model of which server."""
    return spec.partition("?")[0].strip()
