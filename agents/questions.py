"""Questions of the Coordinator to another agent about its phase of the round."""

from __future__ import annotations

from autogen_core.models import LLMMessage, SystemMessage, UserMessage

from learning_signal.agents.roles import Agent

ANSWER_LIMIT = 2000
"""Characters of an answer that the Coordinator is shown."""


async def answer_of(agent: Agent, record: str, question: str) -> str:
    """The answer of ``agent``, whose phase is told by ``record``; in brackets where it called a tool instead.

    Raises ``BackendError`` where its backend gives none.
    """
    messages: list[LLMMessage] = [
        SystemMessage(content=agent.prompt.text),
        UserMessage(
            content=f"{record}\n\nQUESTION from the coordinator: {question}\nAnswer in at most five sentences of "
            "plain text; call no tool.",
            source="coordinator",
        ),
    ]
    reply = await agent.client.create(messages)
    if not isinstance(reply.content, str):
        return f"(The {agent.role} called a tool instead of answering.)"
    if len(reply.content) > ANSWER_LIMIT:
        return f"{reply.content[:ANSWER_LIMIT]} [cut: {ANSWER_LIMIT} of {len(reply.content)} characters]"
    return reply.content
