"""One copy of a foreign environment, its episode written into the rows of a batch."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from loguru import logger

from learning_signal.marl.errors import EnvironmentFailed
from learning_signal.marl.randomness import mix
from learning_signal.marl.tasks.base import Feature
from learning_signal.marl.tasks.foreign.declaration import Source, at, kind
from learning_signal.marl.tasks.foreign.layout import Layout, as_row, survey
from learning_signal.marl.tasks.foreign.masks import WrongMask, read_mask
from learning_signal.marl.tasks.picture import Picture, unsound


class Member:
    """One environment; every array it fills is a row of the batch it belongs to.

    Raises ``EnvironmentFailed`` where the environment fails or does what the contract of a ``ParallelEnv`` forbids.
    """

    def __init__(self, source: Source, layout: Layout | None = None) -> None:
        self.source, self.env = source, source.make()
        self.layout = layout or survey(source, self.env)
        self._names = list(self.env.possible_agents)
        self._places = {agent: place for place, agent in enumerate(self._names)}
        self._acting: list[Any] = []
        self._own = np.arange(self.layout.actions) < np.array([[agent.actions] for agent in self.layout.agents])
        self.allowed = self._own
        """``[A, actions]`` bool: what each agent may do now; all of its actions where it acts no more."""
        self._moment = (0, 0)
        """The seed of the episode and how many steps it has gone."""
        shape = (len(self._names), self.layout.actions) if self.layout.continuous else (len(self._names),)
        self._played = np.zeros((self.layout.horizon, *shape), np.float32 if self.layout.continuous else np.int32)
        """The joint actions of the episode, to replay it."""
        self._episode = 0
        self._drawing: Any = None
        self._drawn: tuple[int, int] | None = None
        """The position of the drawing copy: its episode and step."""

    def reset(self, seed: np.uint64, observations: np.ndarray) -> None:
        """Start the episode of ``seed``; write ``observations [A, O]``."""
        # Environments take seeds that fit 31 bits; mixed first, because small seeds have all their bits at the end.
        self._moment = (int(mix(np.asarray(seed, np.uint64)) >> np.uint64(33)), 0)
        self._episode += 1
        if self.source.task.new_each_episode:
            self._ask("close", self.env.close)
            self.env = self.source.make()
        answer = self._ask("reset", self.env.reset, seed=self._moment[0])
        if not (isinstance(answer, tuple) and len(answer) == 2):
            raise self._wrong("reset", f"gave {kind(answer)}", "observations and infos", "return both")
        self._acting = list(self.env.agents)
        absent = [agent for agent in self._names if agent not in self._acting]
        if absent or len(self._acting) != len(self._names):
            found = f"started without {absent[0]}" if absent else "started with other agents"
            raise self._wrong("reset", found, "all of possible_agents", "start with all of them")
        self._write(answer[0], self._names, observations)
        self._read_masks(answer[0], answer[1])

    def step(self, actions: np.ndarray, observations: np.ndarray, alive: np.ndarray) -> tuple[float, bool, bool]:
        """Apply the joint action ``[A]`` or ``[A, D]``; write observations ``[A, O]`` and ``alive [A]``.

        Returns the sparse reward, terminated and truncated. An episode is truncated at the horizon. Agents that only
        truncation ended stay alive in its last step, so that their value is bootstrapped from the state that they see.
        """
        acting, (seed, elapsed) = self._acting, self._moment
        self._played[elapsed] = actions
        self._moment = (seed, elapsed + 1)
        answer = self._ask("step", self.env.step, self._joint(actions, acting))
        if not (isinstance(answer, tuple) and len(answer) == 5):
            raise self._wrong("step", f"gave {kind(answer)}", "five dictionaries", "return all five")
        seen, rewards, terminations, truncations, infos = answer
        present = set(self.env.agents)
        if not present.issubset(acting):
            joined = sorted(map(str, present.difference(acting)))[0]
            raise self._wrong("step", f"let {joined} join", "only agents that acted", "let all be there from the start")
        # What ended is read from this step's answer: once an agent is out, env.agents does not know it any more.
        out = {agent for agent in acting if terminations.get(agent, False) or truncations.get(agent, False)}
        self._acting = [agent for agent in acting if agent in present and agent not in out]
        overtime = bool(self._acting) and elapsed + 1 >= self.layout.horizon
        ended = not self._acting or overtime
        cut = [agent for agent in acting if agent in out and not terminations.get(agent, False)] if ended else []
        remaining = [*self._acting, *cut]
        self._write(seen, remaining, observations)
        self._read_masks(seen, infos)
        alive[[self._places[agent] for agent in remaining]] = True
        truncated = ended and bool(remaining)
        return self._sparse_reward(rewards), ended and not truncated, truncated

    def own_state(self) -> np.ndarray:
        """``env.state()`` as a row ``[S]`` float32; where the layout says that there is one."""
        row = as_row(self._ask("state()", self.env.state))
        if row.size != self.layout.state_size:
            expected = f"{self.layout.state_size} as at the start"
            raise self._wrong("state()", f"gave {row.size} numbers", expected, "keep its size")
        return row

    def feature(self, feature: Feature) -> float | np.ndarray:
        """The value of a feature: a number, or ``[A]``."""
        what = f"feature {feature.name!r}"
        values = self._ask(what, self.source.task.features[feature], self.env)
        try:
            values = np.asarray(values, np.float64)
        except (TypeError, ValueError) as error:
            raise self._wrong(what, f"is a {type(values).__name__}", "numbers", "return numbers") from error
        shape: tuple[int, ...] = () if feature.scope == "team" else (len(self._names),)
        if values.shape != shape:
            expected = "one number" if feature.scope == "team" else f"{shape[0]} numbers, one per possible agent"
            raise self._wrong(what, f"has shape {values.shape}", expected, "return that, or change its scope")
        # The tolerance is for rounding alone: a distance computed in two ways may differ in its last digits.
        tolerance = 1e-6 * (feature.high - feature.low)
        if not ((values >= feature.low - tolerance) & (values <= feature.high + tolerance)).all():
            worst = values.flat[np.argmax(np.abs(values - (feature.low + feature.high) / 2))]
            expected = f"{feature.low:g} to {feature.high:g} as declared"
            raise self._wrong(what, f"is {worst:g}", expected, "correct it or widen its bounds")
        return np.clip(values, feature.low, feature.high)

    def progress(self) -> float:
        """The declared progress, in [0, 1]."""
        value = self._number("progress", self._ask("progress", self.source.task.progress, self.env))
        if not -1e-6 <= value <= 1 + 1e-6:
            raise self._wrong("progress", f"is {value:g}", "0 to 1", "scale it")
        return min(max(value, 0.0), 1.0)

    def heuristic(self, actions: np.ndarray) -> None:
        """Write the scripted policy's actions ``[A]`` or ``[A, D]`` for the agents that are still there."""
        chosen = self._ask("heuristic", self.source.task.heuristic, self.env)
        for agent in self._acting:
            place = self._places[agent]
            if agent not in chosen:
                raise self._wrong("heuristic", f"has no action for {agent}", "one per env.agents", "add it")
            ours = self.layout.agents[place].encode(chosen[agent])
            if isinstance(ours, np.ndarray):
                actions[place, : ours.size] = ours
            else:
                actions[place] = ours

    def picture(self) -> Picture | None:
        """The declared drawing of the present state, of shapes; None without one."""
        if self.source.task.draw is None:
            return None
        drawn = self._ask("draw", self.source.task.draw, self.env)
        if not isinstance(drawn, Picture) or drawn.pixels is not None:
            found = "gave pixels" if isinstance(drawn, Picture) else f"gave {kind(drawn)}"
            raise self._wrong("draw", found, "a Picture of shapes", "return one")
        wrong = next((each for each in (unsound(shape) for shape in drawn.shapes) if each), None)
        if wrong is not None:
            raise self._wrong("draw", f"gave {wrong}", "shapes as marl.tasks.picture declares them", "correct it")
        if not drawn.width > 0 < drawn.height:
            raise self._wrong("draw", f"gave a picture of {drawn.width} x {drawn.height}", "more than 0", "correct it")
        return drawn

    def pixels(self) -> np.ndarray | None:
        """``[height, width, 3]`` uint8 of the present state; None where the environment cannot be drawn.

        Stepping must not pay for drawing, so a second copy that draws plays the same episode up to here.
        """
        if not self.source.takes("render_mode"):
            return None
        now, before = (self._episode, self._moment[1]), self._drawn
        try:
            # The seed does not identify the episode: it may be played again with other actions.
            reached = before[1] if before is not None and before[0] == now[0] and before <= now else None
            if self._drawing is None or (reached is None and self.source.task.new_each_episode):
                self._drawing = self.source.make(render_mode="rgb_array")
            if reached is None:
                self._drawing.reset(seed=self._moment[0])
            for step in range(reached or 0, now[1]):
                self._drawing.step(self._joint(self._played[step], list(self._drawing.agents)))
            self._drawn = now
            image = self._drawing.render()
        except Exception as error:
            self._drawn = None  # wherever it stands now
            logger.warning("{} cannot be drawn ({}: {})", self.source.name, type(error).__name__, error)
            return None
        drawn = isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
        return image if drawn else None

    def close(self) -> None:
        """Close the environment and the copy that draws."""
        for env in (self.env, self._drawing):
            if hasattr(env, "close"):
                env.close()

    def caption(self) -> str:
        """Where the episode is."""
        return f"step {self._moment[1]}"

    def _joint(self, actions: np.ndarray, acting: Collection[Any]) -> dict[Any, Any]:
        places, agents = self._places, self.layout.agents
        return {agent: agents[places[agent]].decode(actions[places[agent]]) for agent in acting}

    def _write(self, seen: Any, agents: Collection[Any], observations: np.ndarray) -> None:
        for agent in agents:
            place = self._places[agent]
            layout = self.layout.agents[place]
            if agent not in seen:
                raise self._wrong("observation", f"of {agent} is missing", "one per agent that acted", "return it")
            row = self._ask(f"observation of {agent}", layout.read, seen[agent])
            if row.size != layout.size:
                expected = f"{layout.size} as its space says"
                raise self._wrong(f"observation of {agent}", f"has {row.size} numbers", expected, "correct either")
            # NaN observations would make the policy NaN, which looks like diverged training.
            if not np.isfinite(row).all():
                raise self._wrong(
                    f"observation of {agent}", "has NaN or infinity", "finite numbers", "look for a division by zero"
                )
            observations[place, : layout.size] = row

    def _read_masks(self, seen: Any, infos: Any) -> None:
        """What the agents that act next may do, where masks say so."""
        if not self.layout.masked:
            return
        self.allowed = self._own.copy()
        for agent in self._acting:
            place = self._places[agent]
            layout, info = self.layout.agents[place], infos.get(agent) if isinstance(infos, Mapping) else None
            if layout.mask is None:
                continue
            try:
                self.allowed[place, : layout.actions] = read_mask(layout.mask, seen[agent], info, layout.actions)
            except WrongMask as error:
                raise self._wrong(f"the action mask of {agent}", *error.args) from error

    def _sparse_reward(self, rewards: dict[Any, float]) -> float:
        own = self.source.task.sparse_reward
        if own is not None:
            return self._number("sparse_reward", self._ask("sparse_reward", own, self.env, rewards))
        return self._number("rewards", self._ask("rewards", lambda: sum(map(float, rewards.values()))))

    def _number(self, what: str, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise self._wrong(what, f"is a {type(value).__name__}", "a number", "return a number") from error
        if not math.isfinite(number):
            raise self._wrong(what, f"is {number}", "a finite number", "look for a division by zero")
        return number

    def _ask(self, what: str, function: Any, *given: Any, **named: Any) -> Any:
        return self.source.ask(what, self._moment, function, *given, **named)

    def _wrong(self, what: str, found: str, expected: str, remedy: str) -> EnvironmentFailed:
        return EnvironmentFailed(
            f"{what} of {self.source.name} {found}{at(self._moment)}, expected {expected}: {remedy}."
        )
