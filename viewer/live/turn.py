"""A turn of a person who plays an agent: the brief, the tools, and a prompt at which one of them is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from learning_signal.viewer.live.fields import TakenBack, field_lines, typed_arguments
from learning_signal.viewer.live.keyboard import Keyboard
from learning_signal.viewer.live.readable import readable
from learning_signal.viewer.text import clean

HELP = (
    "TOOL                    fill in its fields one by one",
    "TOOL name=value …       lists with commas: names=a,b",
    "TOOL {JSON}             as a model writes it; several lines end with an empty one",
    "say WORDS               answer in words, without a tool",
    "tools, tool NAME        the tools, and the fields of one",
    "context, prompt         all that was said, and the instructions of this agent",
    "leave                   stop here: the session pauses, and resume goes on",
)
STYLES = {"told": "", "you said": "bold", "you called": "bold", "result": "", "refused": "red"}


class Seat:
    """Lets the person at the terminal take the turns of an agent."""

    def __init__(self, console: Console) -> None:
        self._console, self._keyboard = console, Keyboard(console)

    def take(self, turn: Any) -> dict[str, str]:
        """Show what is new to the person, and read the reply.

        That is ``tool`` and ``arguments``, or ``words``, or why there is none: ``left`` or ``absent``.
        ``turn`` has ``role``, ``prompt``, ``said`` (``kind``, ``text``), ``new``, ``tools`` (``name``, ``description``,
        ``parameters``) and ``withdrawn``. Blocks.
        """
        if not self._keyboard.here:
            return {"absent": "found no terminal at standard input, expected one where a person types"}
        first = turn.new == len(turn.said)
        if first:
            self._say(f"\nYou are the {turn.role}. Type help for what can be typed.", "bold")
        self._show(turn.said[len(turn.said) - turn.new :])
        if first and turn.tools:
            self._tools(turn.tools)
        self._keyboard.forget()
        try:
            while True:
                line = self._keyboard.line(f"{turn.role}> ", turn.withdrawn.is_set)
                if line is None:
                    return {"left": "a pause was asked for"}
                replied = self._replied(turn, line.strip())
                if replied is not None:
                    return replied
        except TakenBack:
            return {"left": "a pause was asked for"}
        except EOFError:
            return {"left": "the input ended"}

    def _replied(self, turn: Any, line: str) -> dict[str, str] | None:
        """What a line replies; None where it only shows something."""
        word, _, rest = line.partition(" ")
        rest, tools = rest.strip(), {tool["name"]: tool for tool in turn.tools}
        if word in tools:
            return self._call(turn, tools[word], rest)
        if word == "leave":
            return {"left": "the person left it"}
        if word == "say" and rest:
            return {"words": rest}
        if word == "context":
            self._show(turn.said)
        elif word == "prompt":
            self._say(turn.prompt)
        elif word == "tools":
            self._tools(turn.tools)
        elif word == "tool" and rest in tools:
            self._say("\n".join([f"{rest}: {tools[rest]['description']}", *field_lines(tools[rest]["parameters"])]))
        elif word == "help":
            self._say("\n".join(HELP))
        elif line and not turn.tools:
            return {"words": line}
        elif line:
            self._say(f"found {word!r}, expected a tool ({', '.join(tools) or 'none'}), say WORDS, or help", "yellow")
        return None

    def _call(self, turn: Any, tool: Mapping[str, Any], rest: str) -> dict[str, str] | None:
        def ask(prompt: str) -> str | None:
            return self._keyboard.line(prompt, turn.withdrawn.is_set)

        try:
            return {"tool": tool["name"], "arguments": typed_arguments(tool["parameters"], rest, ask)}
        except ValueError as error:
            self._say(str(error), "yellow")
            return None

    def _show(self, said: Any) -> None:
        for each in said:
            self._say(f"{each.kind}:", "dim")
            self._console.print(
                Padding(Text(clean(readable(each.text), lines=True), STYLES[each.kind]), (0, 0, 0, 2), expand=False)
            )

    def _tools(self, tools: Any) -> None:
        for tool in tools:
            self._console.print(Text.assemble((f"  {tool['name']}: ", "bold"), clean(tool["description"])))

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(Text(clean(text, lines=True), style))
