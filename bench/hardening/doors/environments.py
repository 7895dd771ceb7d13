"""Environments of a user: raising, ending, printing, waiting, forking and lying, in each of their methods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from bench.hardening.fixtures import Fixtures
from bench.hardening.inputs import Input

COMMANDS = (
    (("check-env", "mine:Mine", "--patience", "4", "--episodes", "2"),),
    (("check-env", "mine:Mine", "--patience", "4", "--episodes", "2", "--json"),),
)
SOURCE = '''\
"""An environment as its user wrote it."""
import os, sys, time, signal, threading, warnings
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv
{at_import}

class Mine(ParallelEnv):
    metadata = {{"name": "mine"}}

    def __init__(self, **options):
        self.possible_agents = ["a", "b"]
        {at_init}

    def observation_space(self, agent):
        {at_observation_space}
        return spaces.Box(-1, 1, (3,), np.float32)

    def action_space(self, agent):
        {at_action_space}
        return spaces.Discrete(4)

    def seen(self):
        return {{agent: self.random.uniform(-1, 1, 3).astype(np.float32) for agent in self.agents}}

    def reset(self, seed=None, options=None):
        self.random, self.agents, self.time = np.random.default_rng(seed), list(self.possible_agents), 0
        seen, infos = self.seen(), {{agent: {{}} for agent in self.agents}}
        {at_reset}
        return seen, infos

    def step(self, actions):
        self.time += 1
        over = self.time >= 6
        seen, rewards = self.seen(), {{agent: 0.0 for agent in self.agents}}
        ended, cut = {{agent: False for agent in self.agents}}, {{agent: over for agent in self.agents}}
        infos = {{agent: {{}} for agent in self.agents}}
        {at_step}
        if over:
            self.agents = []
        return seen, rewards, ended, cut, infos
'''
PLACES = ("at_import", "at_init", "at_observation_space", "at_action_space", "at_reset", "at_step")
ANYWHERE = {
    "raises": "raise RuntimeError('boom')",
    "raises with escapes": r"raise ValueError('\x1b]0;OWNED\x07' * 2000)",
    "raises without words": "raise AssertionError",
    "raises what is no exception's text": "raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})()",
    "exits with 0": "sys.exit(0)",
    "exits with 3": "sys.exit(3)",
    "exits with a word": "raise SystemExit('bye')",
    "exits at once": "os._exit(0)",
    "is interrupted": "raise KeyboardInterrupt",
    "kills itself": "os.kill(os.getpid(), signal.SIGKILL)",
    "crashes": "import ctypes; ctypes.string_at(0)",
    "aborts": "os.abort()",
    "sleeps": "time.sleep(1000)",
    "never ends": "exec('while True: pass')",
    "recurses": "exec('def f(): return f()\\nf()')",
    "wants all memory": "sys._big = bytearray(10**13)",
    "prints": r"print('\x1b[31mRED\x1b]0;x\x07' * 3); print('to err', file=sys.stderr)",
    "prints 20 MB": "print('x' * 20_000_000)",
    "closes its output": "sys.stdout.close(); os.close(1)",
    "closes everything": "os.closerange(0, 64)",
    "reads from the keyboard": "input()",
    "warns": "warnings.warn('look ' * 2000)",
    "forks": "os.fork() or time.sleep(1000)",
    "starts a thread": "threading.Thread(target=time.sleep, args=(1000,)).start()",
    "ignores signals": "[signal.signal(each, signal.SIG_IGN) for each in (1, 2, 15)]; time.sleep(1000)",
    "catches the end": "exec('try:\\n    raise SystemExit(5)\\nfinally:\\n    os._exit(9)')",
    "changes folder": "os.chdir('/')",
    "turns warnings into errors": "warnings.simplefilter('error')",
    "replaces open": "import builtins; builtins.open = None",
    "raises a group": "raise ExceptionGroup('many', [ValueError('x')] * 50)",
    "writes into the pipe": "[os.write(each, b'{\"findings\": []}\\n') for each in range(3, 12) if exec_ok(each)]",
}
"""What the code of any method may do. ``exec_ok`` says which numbers are open for writing."""
HELPER = """
def exec_ok(number):
    import fcntl
    try:
        return fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    except OSError:
        return False
"""
ANSWERS = {
    "at_step": (
        "return None", "return seen", "return seen, rewards, ended, cut", "return 1, 2, 3, 4, 5", "seen = None",
        "rewards = None", "rewards = {}", "rewards = {a: None for a in rewards}", "rewards = {a: 'x' for a in rewards}",
        "rewards = {a: float('nan') for a in rewards}", "rewards = {a: float('inf') for a in rewards}",
        "rewards = {a: 1e300 for a in rewards}", "rewards = {a: 10**400 for a in rewards}",
        "rewards = {a: np.ones(3) for a in rewards}", "seen = {a: np.full(3, np.nan, np.float32) for a in seen}",
        "seen = {a: np.zeros(7, np.float32) for a in seen}", "seen = {a: [] for a in seen}",
        "seen = {a: 'x' for a in seen}",
        "seen = {a: np.array([object()] * 3) for a in seen}", "seen = {'stranger': seen['a']} if 'a' in seen else seen",
        "ended = {a: None for a in ended}", "cut = {}", "over = False", "self.agents = ['c']", "self.agents = None",
        "self.agents = self.agents * 2", "ended = {a: np.ones(2, bool) for a in ended}", "infos = None",
        "seen = {a: np.random.normal(size=3).astype(np.float32) for a in seen}", "infos = {a: infos for a in infos}",
    ),
    "at_reset": (
        "return None", "return seen", "return seen, infos, 3", "return 1, 2", "self.agents = []", "seen = {}",
        "self.agents = ['a', 'a']", "seen = {a: np.full(3, 1e30, np.float32) for a in seen}", "infos = None",
        "self.agents = [1, 2]", "seen['a'] = None", "seen = {a: np.zeros((3, 3)) for a in seen}", "return infos, seen",
    ),
    "at_observation_space": (
        "return None", "return 3", "return spaces.Box(-np.inf, np.inf, (10**9,), np.float32)",
        "return spaces.Discrete(0 + 1)",
        "return spaces.Text(9)", "return spaces.Box(-1, 1, (0,), np.float32)", "return spaces.Dict({})",
        "return spaces.Box(-1, 1, (2, 2, 2, 2), np.float32)", "return spaces.Tuple(())",
        "return spaces.Graph(spaces.Discrete(3), None)",
    ),
    "at_action_space": (
        "return None", "return spaces.Discrete(10**9)", "return spaces.Discrete(1)",
        "return spaces.Discrete(3, start=-5)",
        "return spaces.MultiBinary(40)", "return spaces.MultiDiscrete([2] * 60)",
        "return spaces.Box(-np.inf, np.inf, (2,))",
        "return spaces.Box(0, 0, (2,), np.float32)", "return spaces.Text(9)",
        "return spaces.Dict({'a': spaces.Discrete(2)})",
    ),
    "at_init": (
        "self.possible_agents = []", "self.possible_agents = None", "self.possible_agents = ['a'] * 2",
        "self.possible_agents = [f'a{n}' for n in range(5000)]", "self.possible_agents = [None, 1]",
        "del self.possible_agents",
        r"self.possible_agents = ['\x1b[31m', '../x']", "self.possible_agents = {'a': 1}",
        "self.possible_agents = 'ab'",
    ),
}  # fmt: skip
"""Answers of the wrong shape, by the method that gives them."""


def inputs(fixtures: Fixtures, random: Random) -> Iterator[Input]:
    """Some 150 environments."""
    cases = [
        (place, f"{place.removeprefix('at_')} {what}", line)
        for what, line in ANYWHERE.items()
        for place in random.sample(PLACES, 3)
    ]
    cases += [
        (place, f"{place.removeprefix('at_')}: {line}", line) for place, lines in ANSWERS.items() for line in lines
    ]
    for index, (place, what, line) in enumerate(cases):
        yield Input(what, COMMANDS[index % 2], _written(place, line))


def _written(place: str, line: str):
    def prepare(folder: Path) -> None:
        lines = {each: "pass" for each in PLACES} | {place: line}
        lines["at_import"] = HELPER + ("" if place != "at_import" else line)
        (folder / "mine.py").write_text(SOURCE.format(**lines), "utf-8")

    return prepare
