"""Requests on their way out: the large parts go around what the SDKs do to every field of every message."""

from __future__ import annotations

import asyncio

import pytest

from learning_signal.agents.model.backends import build_client
from learning_signal.agents.model.dialect.outgoing import chat_request, messages_request
from learning_signal.agents.model.specs import parse_spec
from tests.support.faulty.protocols import PROTOCOLS, Said
from tests.support.scripted_server import Reply, serving

TOOLS = [{"name": "look", "description": "Look.", "parameters": {"type": "object", "properties": {}}}]
KEY = {"FAULTY_API_KEY": "sk-canary-0123456789abcdef"}


@pytest.mark.parametrize("amend", [chat_request, messages_request])
def test_messages_and_tools_are_in_the_extra_body(amend):
    messages, tools = [{"role": "user", "content": "Go on."}], [{"type": "function"}]
    sent = amend({"model": "m", "messages": messages, "tools": tools, "extra_body": {"x": 1}})
    assert sent == {"model": "m", "messages": [], "extra_body": {"x": 1, "messages": messages, "tools": tools}}
    without = amend({"model": "m", "messages": messages, "tools": object()})
    assert isinstance(without["tools"], object) and without["extra_body"] == {"messages": messages}


@pytest.mark.parametrize("protocol", PROTOCOLS[:2], ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("tools", [TOOLS, []], ids=["tools", "none"])
def test_the_server_gets_the_whole_request(protocol, tools):
    from autogen_core.models import UserMessage

    async def main():
        async with serving(Reply(body=protocol.reply(Said("Well.")))) as server:
            spec = parse_spec(protocol.spec.format(address=server.address.removesuffix("/v1")))
            client = build_client(spec, "critic", environment=KEY)
            try:
                await client.create([UserMessage(content="Go on.", source="user")], tools=tools)
            finally:
                await client.close()
            return server.requests[0].body

    body = asyncio.run(main())
    assert [(each["role"], each["content"]) for each in body["messages"]] == [("user", "Go on.")]
    assert len(body.get("tools", [])) == len(tools) and body["model"] == "m"
