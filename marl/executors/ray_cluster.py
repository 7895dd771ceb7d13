"""How this process joins or starts a Ray cluster and leaves it: with timeouts, quietly, and closed to strangers."""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from loguru import logger

from learning_signal.marl.errors import sentence
from learning_signal.marl.executors.base import ExecutorError
from learning_signal.marl.processes import THREAD_VARIABLES, available_cores

_PROBE_SECONDS = 5.0
_JOIN_SECONDS = 60.0
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a task that asks for no GPU sees what its machine sees
}
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
"""The pattern of the names of variables that a worker must not see."""
_SOURCES = Path(__file__).resolve().parents[2]
"""The folder of this program."""
_PROGRAM = __name__.partition(".")[0]
"""The name that it is imported by."""
_NOT_SENT = ["__pycache__", ".env*", ".git", ".venv", "venv", "runs", "*.db", "*.db-*", "*.pem", "*.key"]
"""Files of a user's package that are not sent to a cluster (patterns as in a .gitignore)."""


@dataclass(frozen=True)
class Joined:
    """A cluster that this process has joined."""

    ray: Any
    """The module."""
    workers: int
    """Segments to compute at a time: as many as were asked for, or one per core of the cluster."""
    leave: Callable[[], None]
    """Leave it; one that was started here ends."""


def refuse_unreachable(address: str | None) -> None:
    """``ExecutorError`` where Ray is not installed or no cluster listens at ``address``; takes five seconds at most."""
    if find_spec("ray") is None:
        raise ExecutorError(
            "The executor ray needs the package ray, which is not installed: run pip install 'learning-signal[ray]', "
            "or choose the executor local."
        )
    if address in (None, "auto"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise ExecutorError(f"Found the Ray address {address!r}, expected HOST:PORT or auto: write e.g. 10.0.0.5:6379.")
    try:
        socket.create_connection((host, int(port)), timeout=_PROBE_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ExecutorError(
            f"Nobody answers at the Ray address {address} ({sentence(error)}), expected the head of a cluster: start "
            "one there with 'ray start --head', or correct the address."
        ) from None


def connect(address: str | None, workers: int | None, tasks: Iterable[str]) -> Joined:
    """Join the cluster at ``address``, or start one here for None; ``ExecutorError`` where that fails.

    Ray listens on every network interface. Joining a cluster that is started here takes a token, which only its own
    processes know: it is made for this cluster and never stored.
    """
    refuse_unreachable(address)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        raise ExecutorError("This process has joined a Ray cluster already, expected none: close that executor first.")
    _silence()
    environment: dict[str, Any] = {"env_vars": dict.fromkeys(THREAD_VARIABLES, "1")}
    options: dict[str, Any] = {"address": address, "runtime_env": environment}
    options |= {"log_to_driver": False, "logging_level": logging.ERROR}
    with ExitStack() as stack:
        if address is None:
            environment["env_vars"]["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, sys.path))
            # Not by default: without an address Ray joins whatever cluster it finds on the machine.
            options |= {"address": "local", "num_cpus": workers or available_cores(), "include_dashboard": False}
            stack.enter_context(_closed_to_strangers())
            with _secrets_hidden():
                leave = _join(ray, options, address)
        else:
            staged = staged_program(Path(stack.enter_context(TemporaryDirectory(prefix="learning-signal-"))))
            environment |= {"py_modules": [str(staged), *sources_of(tasks)], "excludes": _NOT_SENT}
            leave = _join(ray, options, address)
        stack.callback(leave)
        cores = int(ray.cluster_resources().get("CPU", 0))
        if workers is None and cores < 1:
            raise ExecutorError(
                f"The Ray cluster at {address} has no core, expected at least one: start a worker there."
            )
        return Joined(ray, workers or cores, stack.pop_all().close)


def living_nodes(ray: Any) -> frozenset[str]:
    """The ids of the machines of the cluster that are alive."""
    return frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])


def staged_program(folder: Path) -> Path:
    """A copy, made in ``folder``, of what workers import of this program: the package with the room ``marl`` alone.

    Ray calls a package by the name of the folder that it is sent from, and a clone of this program may have any name.
    """
    package = folder / _PROGRAM
    for path in (_SOURCES / "__init__.py", *(_SOURCES / "marl").rglob("*.py")):
        target = package / path.relative_to(_SOURCES)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return package


def sources_of(tasks: Iterable[str]) -> list[str]:
    """The files and packages that define a user's own ``tasks``, but not those that are installed."""
    places = []
    for task in tasks:
        module = task.partition(":")[0].partition(".")[0]
        found = find_spec(module) if ":" in task else None
        if found is None:
            continue
        folders = list(found.submodule_search_locations or ())
        place = folders[0] if folders else found.origin
        if place is not None and not {"site-packages", "dist-packages"} & set(Path(place).parts):
            places.append(place)
    return sorted(set(places))


def _join(ray: Any, options: dict[str, Any], address: str | None) -> Callable[[], None]:
    """Call ``ray.init``, but wait for it no longer than a minute; returns what leaves the cluster.

    It is called in a thread, also because Ray would replace the handler of SIGTERM in the main one. That thread stays
    until the cluster is left, because the processes of a cluster started here die with the thread that started them.
    """
    failures: list[BaseException] = []
    joined, left = threading.Event(), threading.Event()

    def member() -> None:
        try:
            ray.init(**options)
        except BaseException as error:
            failures.append(error)
        joined.set()
        if not failures:
            left.wait()

    def leave() -> None:
        try:
            ray.shutdown()
        except Exception as error:
            logger.debug("Ray could not be left: {}", sentence(error))
        left.set()

    threading.Thread(target=member, name="ray-member", daemon=True).start()
    where = "on this machine" if address is None else f"at {address}"
    if not joined.wait(_JOIN_SECONDS):
        raise ExecutorError(
            f"The Ray cluster {where} did not answer within {_JOIN_SECONDS:g} s, expected it to: check that Ray runs "
            "there in the same version as here, and that this machine is one of its nodes ('ray start --address')."
        )
    if failures:
        reason = sentence(failures[0]).partition(". ")[0]
        raise ExecutorError(f"The Ray cluster {where} cannot be joined ({reason}): start it, or correct the address.")
    return leave


@contextmanager
def _closed_to_strangers() -> Iterator[None]:
    """A cluster started inside accepts only clients with its token, which this process holds until it leaves."""
    from ray import _raylet

    core: Any = _raylet  # its stub knows only a part of it
    if not hasattr(core, "AuthenticationTokenLoader"):
        raise ExecutorError(
            "Found a Ray older than 2.52, expected one that keeps strangers out of a cluster which is started here: "
            "run pip install -U 'learning-signal[ray]', or give the address of a cluster."
        )

    def read_again() -> None:
        # Ray keeps both for the whole process; in this order, because threads of it may still be ending.
        core.Config.initialize("")
        core.AuthenticationTokenLoader.instance().reset_cache()

    ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    before = {name: os.environ[name] for name in ours if name in os.environ}
    os.environ.update(ours)
    read_again()
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
        os.environ.update(before)
        read_again()


@contextmanager
def _secrets_hidden() -> Iterator[None]:
    """Processes started inside inherit no variable whose name looks like a secret, such as the key of a model."""
    hidden = {name: value for name, value in os.environ.items() if _SECRET.search(name)}
    del hidden["RAY_AUTH_TOKEN"]  # they must know it
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def _silence() -> None:
    """Send Ray's own messages about deaths to the log at level trace: the executor reports them itself."""
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda data, *_, **__: logger.trace("Ray: {}", "\n".join(data.get("lines", [])))
