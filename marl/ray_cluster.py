"""How this process joins a Ray cluster or starts one, and leaves it: bounded in time, quiet, with our code there."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from loguru import logger

from marl.executor import ExecutorError
from marl.worker import THREAD_VARIABLES, available_cores, sentence

_PROBE_SECONDS = 5.0
_JOIN_SECONDS = 60.0
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anybody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a task that asks for no GPU sees what its machine sees
}


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
    """``ExecutorError`` where Ray is not installed or nobody listens at ``address``; takes five seconds at most."""
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
    """Join the cluster at ``address``, or start one here for None; ``ExecutorError`` where that fails."""
    refuse_unreachable(address)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        raise ExecutorError("This process has joined a Ray cluster already, expected none: close that executor first.")
    _silence()
    environment: dict[str, Any] = {"env_vars": dict.fromkeys(THREAD_VARIABLES, "1")}
    options: dict[str, Any] = {"address": address, "runtime_env": environment}
    if address is None:
        environment["env_vars"]["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, sys.path))
        # Not by default: without an address Ray joins whatever cluster it finds on the machine.
        options |= {"address": "local", "num_cpus": workers or available_cores(), "include_dashboard": False}
    else:
        environment |= {"py_modules": [str(Path(__file__).parent), *sources_of(tasks)], "excludes": ["__pycache__"]}
    leave = _join(ray, {"log_to_driver": False, "logging_level": logging.ERROR} | options, address)
    cores = int(ray.cluster_resources().get("CPU", 0))
    if workers is None and cores < 1:
        leave()
        raise ExecutorError(f"The Ray cluster at {address} has no core, expected at least one: start a worker there.")
    return Joined(ray, workers or cores, leave)


def living_nodes(ray: Any) -> frozenset[str]:
    """The ids of the machines of the cluster that are alive."""
    return frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])


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


def _silence() -> None:
    """What Ray would print about deaths goes to the log as a trace: the executor says itself what they mean."""
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda data, *_, **__: logger.trace("Ray: {}", "\n".join(data.get("lines", [])))
