"""A session as OpenTelemetry spans and for TensorBoard."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from learning_signal import run
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.tables.curve import session_curve
from learning_signal.ledger.write.writer import Ledger
from learning_signal.viewer.exports.spans import spans
from tests.support.ledger_helpers import begin
from tests.support.recorded_ledger import RECORDED_ID, recorded_ledger

REQUIRED = {
    "chat": {"gen_ai.provider.name", "gen_ai.request.model", "gen_ai.conversation.id"},
    "invoke_agent": {"gen_ai.provider.name", "gen_ai.agent.name", "gen_ai.conversation.id"},
    "execute_tool": {"gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.tool.type"},
    "invoke_workflow": {"gen_ai.workflow.name"},
}
"""Operation -> what the semantic conventions for generative AI require or recommend of it."""


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")


def decoded(text: str) -> ExportTraceServiceRequest:
    """OTLP JSON by its schema; ids are hexadecimal in it, where other bytes are base64."""

    def as_base64(pairs):
        ids = ("traceId", "spanId", "parentSpanId")
        return {
            name: base64.b64encode(bytes.fromhex(value)).decode() if name in ids else value for name, value in pairs
        }

    return json_format.ParseDict(json.loads(text, object_pairs_hook=as_base64), ExportTraceServiceRequest())


def plain(attributes) -> dict[str, object]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def test_spans_keep_schema_and_conventions_and_say_what_the_log_says(ledger: Path, tmp_path: Path) -> None:
    to = tmp_path / "spans.json"
    assert run.run(["log", "export", "--as", "otlp", "--ledger", str(ledger), "--to", str(to)]) == 0
    assert to.read_text().count("\n") == 1, "a file of one request to a line, as collectors read it"
    (scope,) = decoded(to.read_text()).resource_spans[0].scope_spans
    made = {each.span_id: each for each in scope.spans}
    assert len(made) == len(scope.spans) and {len(each.trace_id) for each in scope.spans} == {16}
    by_operation: dict[str, list] = {}
    for span in scope.spans:
        facts = plain(span.attributes)
        operation = facts.get("gen_ai.operation.name", "round")
        by_operation.setdefault(operation, []).append((span, facts))
        assert REQUIRED.get(operation, set()) <= facts.keys() | (
            {"gen_ai.request.model"} if operation == "x" else set()
        )
        assert span.name.startswith(operation) and span.start_time_unix_nano <= span.end_time_unix_nano
        if operation == "invoke_workflow":
            assert span.parent_span_id == b""
            continue
        above = made[span.parent_span_id]
        assert above.start_time_unix_nano <= span.start_time_unix_nano
        assert span.end_time_unix_nano <= above.end_time_unix_nano, (span.name, above.name)
        expected = {"chat": "invoke_agent", "execute_tool": "invoke_agent", "invoke_agent": "round"}
        parent = plain(above.attributes).get("gen_ai.operation.name", "round")
        assert parent == expected.get(operation, "invoke_workflow"), (span.name, above.name)
    with Reader.open(ledger) as reader:
        costs = reader.costs()
        tools = reader.rows("SELECT count(*) n FROM tool_calls")[0]["n"]
        decisions = [each.round for each in reader.decisions()]
    assert len(by_operation["chat"]) == costs.llm_calls and len(by_operation["execute_tool"]) == tools
    tokens = [facts.get("gen_ai.usage.input_tokens", 0) for _, facts in by_operation["chat"]]
    assert sum(tokens) == costs.tokens_in
    failed = [(span, facts) for span, facts in by_operation["chat"] if span.status.code == 2]
    assert [facts["error.type"] for _, facts in failed] == ["transient"] and failed[0][0].kind == 3
    told = [event.name for span, _ in by_operation["round"] for event in span.events]
    assert told.count("learning_signal.decision") == len(decisions)


def test_prompts_and_replies_are_left_out(ledger: Path) -> None:
    with Reader.open(ledger) as reader:
        assert "You are the Critic" not in json.dumps(spans(reader))


def test_a_session_that_has_only_begun_is_one_span(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "l.db") as ledger, Reader.open(tmp_path / "l.db") as reader:
        begin(ledger)
        made = decoded(json.dumps(spans(reader)))
    assert [each.name for each in made.resource_spans[0].scope_spans[0].spans] == ["invoke_workflow learning-signal"]


def test_tensorboard_has_curves_metrics_and_decisions(ledger: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    to = tmp_path / "curves"
    assert run.run(["log", "export", "--as", "tensorboard", "--ledger", str(ledger), "--to", str(to)]) == 0
    written = EventAccumulator(str(to), size_guidance={"tensors": 0, "scalars": 0})
    written.Reload()
    with Reader.open(ledger) as reader:
        curve = session_curve(reader, RECORDED_ID)
        lineage = {each.id for each in reader.lineage()}
        entropy = [
            row
            for row in reader.rows("SELECT * FROM metrics WHERE name = 'entropy' ORDER BY env_steps")
            if row["segment_id"] in lineage
        ]
    found = [(each.step, each.value) for each in written.Scalars("head/sparse_return")]
    assert found == [(round(steps), pytest.approx(value, rel=1e-6)) for steps, value in curve.points]
    assert [each.step for each in written.Scalars("train/entropy")] == [row["env_steps"] for row in entropy]
    (text,) = written.Tensors("decisions/R1")
    assert b"**promote**" in text.tensor_proto.string_val[0] and text.step == round(curve.decisions[0].end)
    assert written.SummaryMetadata("decisions/R1").plugin_data.plugin_name == "text"


def test_without_tensorboard_it_is_one_sentence(
    ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert run.run(["log", "export", "--as", "tensorboard", "--ledger", str(ledger), "--to", str(tmp_path / "t")]) == 2
    assert "tensorboard is not installed" in capsys.readouterr().err and not (tmp_path / "t").exists()
