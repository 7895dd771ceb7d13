"""A session for TensorBoard: the curve of HEAD over everything that was trained, its metrics, and decisions as text."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from learning_signal.ledger.read.decision.explain import explain_all
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.tables.curve import session_curve
from learning_signal.viewer.exports.files import of_extra
from learning_signal.viewer.exports.markup import markdown
from learning_signal.viewer.reports.explain import render_decision


def write_tensorboard(reader: Reader, session: str, folder: Path) -> None:
    """Write an event file to ``folder``, which ``tensorboard --logdir`` reads.

    ``head/sparse_return`` and ``head/progress`` are by total env steps of training, branches included; so are the texts
    ``decisions/R1``, ``R2`` ... ``train/NAME`` are the metrics of the updates that HEAD rests on, by its own env steps.

    Raises:
        ExportError: TensorBoard is not installed.
    """
    protos = of_extra("tensorboard.compat.proto.event_pb2", "tensorboard")
    summaries = of_extra("tensorboard.compat.proto.summary_pb2", "tensorboard")
    writers = of_extra("tensorboard.summary.writer.event_file_writer", "tensorboard")
    row = reader.session(session)
    begun = datetime.fromisoformat(row.started_at).timestamp()
    folder.mkdir(parents=True, exist_ok=True)
    writer = writers.EventFileWriter(str(folder))

    def add(value: Any, env_steps: float, at: str | None = None) -> None:
        time = begun if at is None else datetime.fromisoformat(at).timestamp()
        summary = summaries.Summary(value=[value])
        writer.add_event(protos.Event(wall_time=time, step=round(env_steps), summary=summary))

    for measure in ("sparse_return", "progress"):
        curve = session_curve(reader, row.id, measure)
        for total, value in curve.points:
            add(summaries.Summary.Value(tag=f"head/{measure}", simple_value=value), total)
    for segment in reader.lineage(row.id):
        for metric in reader.rows(
            "SELECT env_steps, name, value FROM metrics WHERE session_id = ? AND segment_id = ? AND value IS NOT NULL",
            (row.id, segment.id),
        ):
            tag = f"train/{metric['name']}"
            add(summaries.Summary.Value(tag=tag, simple_value=metric["value"]), metric["env_steps"], segment.ended_at)
    ends = {each.round: each.end for each in session_curve(reader, row.id).decisions}
    for chain in explain_all(reader, row.id):
        round_ = chain.decision.round
        add(_text(summaries, f"decisions/R{round_}", markdown(render_decision(chain))), ends[round_])
    writer.close()


def _text(summaries: Any, tag: str, words: str) -> Any:
    """A text as TensorBoard's plugin of that name takes it: a tensor of one string."""
    tensors = of_extra("tensorboard.compat.proto.tensor_pb2", "tensorboard")
    shapes = of_extra("tensorboard.compat.proto.tensor_shape_pb2", "tensorboard")
    plugin = summaries.SummaryMetadata.PluginData(plugin_name="text")
    one = shapes.TensorShapeProto(dim=[shapes.TensorShapeProto.Dim(size=1)])
    tensor = tensors.TensorProto(dtype="DT_STRING", string_val=[words.encode("utf-8", "replace")], tensor_shape=one)
    return summaries.Summary.Value(tag=tag, metadata=summaries.SummaryMetadata(plugin_data=plugin), tensor=tensor)
