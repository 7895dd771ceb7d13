"""Learning curves for TensorBoard: what updates log, and what evaluations measure, by env steps of the run."""

from __future__ import annotations

from pathlib import Path

from learning_signal.marl.segments.segment import SegmentResult


class TensorBoardMissing(ImportError):
    """TensorBoard is not installed; one sentence."""


class Curves:
    """Writes the results of segments to a folder that ``tensorboard --logdir`` reads."""

    def __init__(self, folder: str | Path) -> None:
        """What stands in the folder is superseded: a run that goes on adds every result again.

        Raises ``TensorBoardMissing``.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TensorBoardMissing(
                f"TensorBoard cannot be loaded ({error}), but curves were asked for: "
                "pip install 'learning-signal[tensorboard]', or leave --tensorboard out."
            ) from None
        self._writer = SummaryWriter(str(folder), purge_step=0)

    def add(self, result: SegmentResult) -> None:
        """Metrics of updates as ``train/NAME``, evaluations as ``SET/sparse_return`` and ``SET/progress``."""
        for row in result.updates:
            for name, value in row.items():
                if name != "env_steps" and value is not None:
                    self._writer.add_scalar(f"train/{name}", value, row["env_steps"])
        for each in result.evaluations:
            self._writer.add_scalar(f"{each.set}/sparse_return", each.sparse_return, each.env_steps)
            if each.mean_progress is not None:
                self._writer.add_scalar(f"{each.set}/progress", each.mean_progress, each.env_steps)
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
