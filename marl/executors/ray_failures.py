"""The meaning of a failed Ray task for its segment: a fault of the segment, its machine or the cluster."""

from __future__ import annotations

import time
from typing import Any

from loguru import logger

from learning_signal.marl.errors import SegmentImpossible, sentence
from learning_signal.marl.executors.jobs import ATTEMPTS, Job
from learning_signal.marl.executors.ray_cluster import living_nodes

LOSSES = 5
"""Lost machines of one segment after which the cluster counts as broken."""
_GRACE_SECONDS = 1.0
"""How long after the death of a worker Ray may report the loss of its machine."""


def meaning(ray: Any, job: Job, nodes: frozenset[str], failure: Exception) -> Exception | None:
    """The outcome of a segment whose Ray task gave no answer; None where it is to be retried.

    ``ray`` is the module, ``failure`` what it raised, and ``nodes`` are the machines that were alive when it was given
    the job. Deaths and losses are counted in ``job``.
    """
    errors = ray.exceptions
    if isinstance(failure, errors.TaskCancelledError):
        return job.cancelled()
    if isinstance(failure, errors.WorkerCrashedError):
        time.sleep(_GRACE_SECONDS)
        if nodes <= living_nodes(ray):
            job.deaths.append("its process ended unexpectedly")
            job.lose()
            logger.warning("a worker died while computing segment {}", job.spec.id)
            return job.died() if len(job.deaths) >= ATTEMPTS else None
    lost = (
        errors.WorkerCrashedError,
        errors.NodeDiedError,
        errors.LocalRayletDiedError,
        errors.ObjectLostError,
        errors.OutOfMemoryError,
        errors.ObjectStoreFullError,
        errors.OutOfDiskError,
        errors.GetTimeoutError,
    )
    reason = sentence(failure).partition(". ")[0]
    job.lose()
    if not isinstance(failure, lost):
        return SegmentImpossible(
            f"Ray could not run segment {job.spec.id} ({reason}); put that right and resume.", env_steps=job.env_steps
        )
    job.losses += 1
    logger.warning("segment {} was lost with its machine and is computed again ({})", job.spec.id, reason)
    if job.losses < LOSSES:
        return None
    return SegmentImpossible(
        f"Segment {job.spec.id} lost its machine {job.losses} times ({reason}); repair the cluster and resume.",
        env_steps=job.env_steps,
    )
