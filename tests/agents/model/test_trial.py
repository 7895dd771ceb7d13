"""``backends --check``: a small call, and a nested one at the end of a prompt as long as those of a session."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from learning_signal.agents.model.specs import parse_spec
from learning_signal.agents.model.trial import SESSION_TOKENS, WORD, check
from learning_signal.agents.tokens import count_tokens
from tests.support.scripted_server import call, error, serving, text

TERMS = [{"potential": "speed", "weight": -1.5}, {"potential": "spacing", "weight": 0.5}]
READY = call("report_status", '{"status": "ready"}')


def tried(second, *, whole: bool = True):
    """The result of a check whose second call is answered by ``second``, and the requests."""

    async def main():
        async with serving(READY, second) as server:
            spec = parse_spec(f"openai-api/m@{server.address}?attempts=1")
            return await check(spec, {}, whole=whole), server.requests

    return asyncio.run(main())


def terms(word: str = WORD, terms=TERMS, **options):
    return call("report_terms", json.dumps({"word": word, "terms": terms}), **options)


def test_a_backend_that_reads_a_long_prompt_and_nests_passes():
    result, requests = tried(terms(usage={"prompt_tokens": 11_900, "completion_tokens": 40, "total_tokens": 11_940}))
    assert result.ok and result.prompt_tokens == 11_900
    assert "A prompt of 11,900 tokens" in result.sentence and "it was read whole" in result.sentence
    first, second = (each.body["messages"] for each in requests)
    assert WORD in second[0]["content"][:200] and len(first) == 1
    assert 0.8 * SESSION_TOKENS < count_tokens(second[0]["content"]) < 1.2 * SESSION_TOKENS


def test_without_a_session_to_come_one_tiny_call_is_enough():
    result, requests = tried(terms(), whole=False)
    assert result.ok and len(requests) == 1


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (terms(word="unknown"), "its beginning was not read .* give it a larger context"),
        (terms(terms=TERMS[:1]), "other terms than it was asked for"),
        (call("report_terms", '{"word": "heliotrope", "terms": "speed"}'), "keeps to the schemas"),
        (call("report_terms", '{"word": "heliotrope", "terms": [1, 2]}'), "keeps to the schemas"),
        (text("The word is heliotrope."), "answered without a call"),
        (error(400, "This model's maximum context length is 4096 tokens."), "maximum context length is 4096"),
        (
            terms(usage={"prompt_tokens": 2049, "completion_tokens": 40, "total_tokens": 2089}),
            "read 2049 of about .* it cut the prompt",
        ),
    ],
)
def test_what_a_session_could_not_live_with_is_said(second, sentence):
    result, _ = tried(second)
    assert not result.ok
    assert re.search(sentence, result.sentence), result.sentence
    assert "answers and calls tools" in result.sentence
