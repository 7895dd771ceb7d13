"""One random episode of a bare ``ParallelEnv`` with every answer checked, and the report of what was found."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from learning_signal.marl.tasks.foreign.declaration import kind
from learning_signal.marl.tasks.foreign.layout import Layout
from learning_signal.marl.tasks.foreign.masks import WrongMask, read_mask
from learning_signal.marl.tasks.foreign.own_code import OwnCodeFailed, call

_PARTS = ("observations", "rewards", "terminations", "truncations", "infos")


@dataclass(frozen=True)
class Finding:
    """Something about an environment that is wrong, or that its author should know."""

    level: Literal["error", "warning"]
    check: str
    """The check, in a word or two."""
    message: str
    """What was found, what was expected, what to do."""

    def __str__(self) -> str:
        return f"{self.level}: {self.message}"


class Unplayable(Exception):
    """The episode cannot go on; the report says why."""


class Report:
    """The findings: the first one of every check."""

    def __init__(self) -> None:
        self._found: dict[str, Finding] = {}
        self.shown: dict[Any, set[int]] = {}
        """Hashes of the observations that each agent got, up to two: one is a blind agent."""

    def add(self, level: Literal["error", "warning"], check: str, message: str) -> None:
        """Keep the first finding of every check."""
        self._found.setdefault(check, Finding(level, check, message))

    def expect(
        self,
        right: Any,
        check: str,
        found: str,
        expected: str,
        remedy: str,
        level: Literal["error", "warning"] = "error",
    ) -> None:
        """A finding unless ``right``."""
        if not right:
            self.add(level, check, f"{found}, expected {expected}: {remedy}.")

    def ask(self, what: str, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """The answer of the environment's own code; an exception ends the check."""
        try:
            return call(what, None, function, *given, **named)
        except OwnCodeFailed as error:
            self.add("error", what.partition("(")[0], f"{what} failed ({error}), expected an answer: correct its code.")
            raise Unplayable from error

    @property
    def has_errors(self) -> bool:
        return any(finding.level == "error" for finding in self._found.values())

    @property
    def findings(self) -> list[Finding]:
        return sorted(self._found.values(), key=lambda finding: finding.level != "error")


class CheckedEpisode:
    """One episode of one seed with random actions, every answer checked."""

    def __init__(self, env: Any, layout: Layout, seed: int, report: Report) -> None:
        self.env, self.layout, self.seed, self.report = env, layout, seed, report
        self._generator = np.random.default_rng(0)  # the same actions in every episode: only the seed differs
        self._masks = {agent: each.mask for agent, each in zip(env.possible_agents, layout.agents, strict=True)}
        self._spaces = {agent: (env.observation_space(agent), env.action_space(agent)) for agent in env.possible_agents}

    def play(self, beside: Iterator[Any] | None = None) -> list[Any]:
        """Everything the episode returned, step by step; ``beside`` is another episode, stepped in turn."""
        trace = []
        for moment in self.steps():
            trace.append(moment)
            if beside is not None:
                next(beside, None)
        return trace

    def steps(self) -> Iterator[Any]:
        """Play one step after another."""
        env, report = self.env, self.report
        answer = report.ask(f"reset(seed={self.seed})", env.reset, seed=self.seed)
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], dict)):
            report.add("error", "reset", f"reset gave {kind(answer)}, expected (observations, infos): return both.")
            raise Unplayable
        report.expect(
            sorted(map(str, env.agents)) == sorted(map(str, env.possible_agents)),
            "agents at the start",
            f"After reset agents is {list(env.agents)}",
            f"all of {list(env.possible_agents)}",
            "set agents = possible_agents[:] in reset",
        )
        self._keys(dict(zip(("observations", "infos"), answer, strict=True)), list(env.agents), "reset")
        self._observations(answer[0], list(env.agents), 0)
        seen, infos = answer
        yield _plain(answer[0])
        for step in range(1, self.layout.horizon + 1):
            acting = list(env.agents)
            if not acting:
                return
            joint = {agent: self._action(agent, seen, infos, step - 1) for agent in acting}
            answer = report.ask(f"step(actions) at step {step}", env.step, joint)
            if not (isinstance(answer, tuple) and len(answer) == 5 and all(isinstance(part, dict) for part in answer)):
                report.add(
                    "error",
                    "step",
                    f"step gave {kind(answer)}, expected five dictionaries ({', '.join(_PARTS)}): return all five.",
                )
                raise Unplayable
            self._answer(dict(zip(_PARTS, answer, strict=True)), acting, step)
            seen, infos = answer[0], answer[4]
            yield _plain(answer[:4])
        report.expect(
            not env.agents,
            "horizon",
            f"After {self.layout.horizon} steps, the declared horizon, agents {list(env.agents)} still act",
            "an episode that has ended",
            "end it there (truncations True, agents empty), or it is cut there",
            "warning",
        )

    def _action(self, agent: Any, seen: dict, infos: dict, step: int) -> Any:
        """A random action among those that the agent's mask allows."""
        space, mask = self._spaces[agent][1], self._masks[agent]
        if mask is not None:
            try:
                allowed = read_mask(mask, seen.get(agent), infos.get(agent), int(space.n))
            except WrongMask as error:
                found, expected, remedy = error.args
                message = f"The action mask of {agent} at step {step} {found}, expected {expected}: {remedy}."
                self.report.add("error", "masks", message)
                raise Unplayable from error
            return int(space.start + self._generator.choice(np.flatnonzero(allowed)))
        if isinstance(space, spaces.Discrete):
            return int(space.start + self._generator.integers(space.n))
        assert isinstance(space, spaces.Box), "its layout could not be surveyed otherwise"
        return self._generator.uniform(space.low, space.high).astype(space.dtype)

    def _answer(self, parts: dict[str, dict], acting: list, step: int) -> None:
        report, env = self.report, self.env
        self._keys(parts, acting, f"step {step}")
        self._observations(parts["observations"], acting, step)
        for agent, reward in parts["rewards"].items():
            right = (
                reward.ndim == 0 if isinstance(reward, np.ndarray) else isinstance(reward, (numbers.Real, np.number))
            )
            report.expect(
                right and not isinstance(reward, (bool, np.bool_)) and np.isfinite(reward),
                "reward values",
                f"The reward of {agent} at step {step} is {reward!r}",
                "a finite number",
                "return a float",
            )
        for part in ("terminations", "truncations"):
            for agent, value in parts[part].items():
                report.expect(
                    isinstance(value, (bool, np.bool_)),
                    part,
                    f"{part}[{agent!r}] at step {step} is {value!r}",
                    "True or False",
                    "return a bool",
                )
        out = [a for a in acting if parts["terminations"].get(a, False) or parts["truncations"].get(a, False)]
        for agent in env.agents:
            report.expect(
                agent in acting,
                "joining",
                f"Agent {agent!r} is in agents after step {step} and did not act in it",
                "no agent to join or return",
                "let all agents be there from the start, idle until they are needed",
            )
            report.expect(
                agent not in out,
                "leaving",
                f"Agent {agent!r} ended at step {step} and is still in agents",
                "it to be gone",
                "take agents whose termination or truncation is True out of agents",
            )
            if agent not in self._spaces:
                raise Unplayable
        for agent in acting:
            report.expect(
                agent in env.agents or agent in out,
                "vanishing",
                f"Agent {agent!r} left agents at step {step} with neither termination nor truncation",
                "one of them to be True",
                "say how it ended in the step in which it leaves",
            )
        for agent, known in self._spaces.items():
            report.expect(
                (env.observation_space(agent), env.action_space(agent)) == known,
                "spaces",
                f"The spaces of {agent} changed by step {step}",
                "the same all the time",
                "make them once, in __init__",
            )

    def _keys(self, parts: dict[str, dict], agents: list, moment: str) -> None:
        """Every dictionary has one entry for each agent that acted, and no others."""
        for part, given in parts.items():
            missing = [agent for agent in agents if agent not in given]
            more = [key for key in given if key not in agents]
            self.report.expect(
                not missing,
                f"{part} keys",
                f"{part} of {moment} have nothing for {', '.join(map(str, missing))}",
                "one entry per agent that acted",
                "return one, also in the step in which an agent ends",
                "warning" if part == "infos" else "error",
            )
            self.report.expect(
                not more,
                f"{part} keys",
                f"{part} of {moment} have an entry for {', '.join(map(str, more))}",
                f"entries for those that acted ({', '.join(map(str, agents))})",
                "leave the others out",
                "warning" if part == "infos" else "error",
            )

    def _observations(self, seen: dict, agents: list, step: int) -> None:
        for agent in agents:
            if agent in seen:
                shown = self.report.shown.setdefault(agent, set())
                if len(shown) < 2:
                    shown.add(hash(_plain(seen[agent])))
                problem = _misfit(self._spaces[agent][0], seen[agent])
                if problem:
                    found, expected, remedy = problem
                    self.report.add(
                        "error",
                        "observations",
                        f"The observation of {agent} at step {step} {found}, expected {expected}: {remedy}.",
                    )


def _misfit(space: spaces.Space, value: Any) -> tuple[str, str, str] | None:
    """The fault of an observation: found, expected, remedy; None where it is in its space."""
    if not isinstance(space, spaces.Box):
        short = str(value)[:60]
        return None if space.contains(value) else (f"is {short}", f"a member of {space}", "correct either")
    if not isinstance(value, np.ndarray):
        return f"is a {type(value).__name__}", "an array", f"return np.array(…, np.{space.dtype})"
    if value.shape != space.shape:
        return f"has shape {value.shape}", f"{space.shape} as in its space", "correct either"
    if value.dtype != space.dtype:
        return f"has type {value.dtype}", f"{space.dtype} as in its space", f"convert it with .astype(np.{space.dtype})"
    if not np.isfinite(value).all():
        return "has NaN or infinity in it", "finite numbers", "look for a division by zero"
    if not ((value >= space.low) & (value <= space.high)).all():
        worst = value[(value < space.low) | (value > space.high)][0]
        return f"has {worst:g} in it", "numbers within the bounds of its space", "scale it, or widen the Box"
    return None


def _plain(value: Any) -> Any:
    """Anything an environment returns as something that compares exactly (NaN too)."""
    if isinstance(value, dict):
        return tuple((str(key), _plain(each)) for key, each in sorted(value.items(), key=lambda item: str(item[0])))
    if isinstance(value, (tuple, list)):
        return tuple(_plain(each) for each in value)
    array = np.asarray(value)
    return (array.shape, array.tobytes()) if array.dtype != object else repr(value)
