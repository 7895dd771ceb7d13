"""The layer that fits requests into the context window of a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from autogen_core.models import CreateResult

from learning_signal.agents.model.call import Call
from learning_signal.agents.model.dialect.fitting import fit, named_window
from learning_signal.agents.model.errors import BackendError
from learning_signal.agents.model.faults import classify
from learning_signal.agents.model.providers.registry import entry_of
from learning_signal.agents.model.providers.spec import BackendSpec
from learning_signal.agents.model.stack.layers import Layer


class Window:
    """Leaves the oldest turns out of a request that the window would not hold.

    The window is that of the spec, else the provider's own, else the one that a refusal of the server names: then the
    next attempt is fitted. It sits below the recorder, which has the whole request, and notes how many turns were left
    out of it.
    """

    def __init__(self, below: Layer, spec: BackendSpec, secrets: Iterable[str] = ()):
        self._below, self._spec, self._secrets = below, spec, tuple(secrets)
        self._window = spec.parameters.context or entry_of(spec).context

    async def answer(self, call: Call) -> CreateResult:
        """The reply of the layer below.

        Raises:
            BackendError: the server named its window, in which the next attempt is fitted.
        """
        if self._window is not None:
            call = self._fitted(call, self._window)
        try:
            return await self._below.answer(call)
        except Exception as failure:
            error = classify(failure, self._spec, self._secrets)
            window = named_window(error.words) if error.status in (400, 413, 422, 500) else None
            if window is None or window == self._window or not fit(call.messages, call.schemas, window).left_out:
                raise
            self._window = window
            raise BackendError("protocol", str(error), status=error.status, words=error.words) from None

    def _fitted(self, call: Call, window: int) -> Call:
        fitted = fit(call.messages, call.schemas, window, self._spec.parameters.max_tokens)
        call.note.left_out = fitted.left_out
        return replace(call, messages=fitted.messages) if fitted.left_out else call
