"""Language models repair the learning signal of a multi-agent reinforcement learning run while it trains.

The names in ``__all__`` are the public interface; everything else is internal and may change between versions. They
are imported when they are first used: ``import learning_signal`` loads neither torch nor autogen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from learning_signal.api import open_log, run_session, train
    from learning_signal.marl.policies.files import load_policy
    from learning_signal.marl.shaping import ShapingConfig
    from learning_signal.marl.tasks import make_task
    from learning_signal.marl.tasks.base import Feature
    from learning_signal.marl.tasks.foreign.declaration import ParallelTask
    from learning_signal.marl.tasks.picture import Picture, Shape

__all__ = [
    "Feature",
    "ParallelTask",
    "Picture",
    "Shape",
    "ShapingConfig",
    "load_policy",
    "make_task",
    "open_log",
    "run_session",
    "train",
]

_HOMES = {
    "Feature": "marl.tasks.base",
    "ParallelTask": "marl.tasks.foreign.declaration",
    "Picture": "marl.tasks.picture",
    "Shape": "marl.tasks.picture",
    "ShapingConfig": "marl.shaping",
    "load_policy": "marl.policies.files",
    "make_task": "marl.tasks",
    "open_log": "api",
    "run_session": "api",
    "train": "api",
}
"""The module of each public name."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
