"""The log in Datasette: its tables to browse and filter in a browser, and what is asked most as queries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

from learning_signal.ledger.packing import add_functions
from learning_signal.viewer.exports.files import of_extra
from learning_signal.viewer.web.listening import listening

HERE = "127.0.0.1"
HOSTS = ("127.0.0.1", "localhost")
"""Names by which a browser on this machine asks; another one is a page elsewhere that was made to point here."""
PLUGIN = "ledger_functions"
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
_SESSION = "session_id = coalesce(nullif(:session, ''), (SELECT max(id) FROM sessions))"
QUERIES: dict[str, tuple[str, str]] = {
    "decisions": (
        "What was decided, on what verdict, in which words",
        "SELECT decisions.session_id, decisions.round, action, decisions.candidate_id, outcome AS verdict, "
        "rule AS measure, verdicts.reason AS record, decided_by, decisions.reason AS words, "
        "decisions.event_seq AS event "
        "FROM decisions LEFT JOIN verdicts ON verdicts.id = verdict_id "
        "ORDER BY decisions.session_id DESC, decisions.round",
    ),
    "candidates": (
        "Every candidate, its forecast and what became of it",
        "SELECT candidates.session_id, candidates.id AS candidate, shaping.body AS shaping, forecast_metric, "
        "forecast_change, forecast_probability, fate, fates.reason, rationale FROM candidates "
        "JOIN bodies AS shaping ON shaping.hash = candidates.shaping "
        "LEFT JOIN fates ON fates.candidate_id = candidates.id AND fates.round = "
        "(SELECT max(round) FROM fates AS last WHERE last.candidate_id = candidates.id) "
        "ORDER BY candidates.session_id DESC, candidates.rowid",
    ),
    "model_calls": (
        "Model calls by session, agent and backend: tokens, seconds, price, errors",
        "SELECT session_id, agent, spec AS backend, count(*) AS calls, sum(status = 'error') AS errors, "
        "sum(tokens_in) AS tokens_in, sum(tokens_out) AS tokens_out, round(sum(latency_ms) / 1000, 1) AS seconds, "
        "sum(cost_usd) AS usd, sum(cost_usd IS NULL) AS calls_without_a_price FROM llm_calls "
        "GROUP BY session_id, agent, spec ORDER BY session_id DESC, agent",
    ),
    "tool_calls": (
        "Tools by agent: calls, refusals, errors, milliseconds",
        "SELECT name AS tool, agent, count(*) AS calls, sum(status = 'refused') AS refused, "
        "sum(status = 'error') AS errors, round(avg(latency_ms), 1) AS mean_ms FROM tool_calls "
        "GROUP BY name, agent ORDER BY calls DESC",
    ),
    "story": (
        "The events of a session in order; the last session where none is named",
        "SELECT seq AS event, round, phase, coalesce(agent, 'session') AS who, kind, status, title, started_at "
        f"FROM events WHERE {_SESSION} ORDER BY seq",
    ),
    "curve": (
        "Evaluations of the main run on the report episodes; the last session where none is named",
        "SELECT evaluations.env_steps, sparse_return, evaluations.progress, episodes, evaluations.segment_id "
        "FROM evaluations JOIN (SELECT DISTINCT segment_id, session_id FROM main_run) AS head "
        "USING (session_id, segment_id) WHERE episode_set = 'report' "
        f"AND evaluations.{_SESSION} ORDER BY evaluations.env_steps",
    ),
    "metrics": (
        "One metric over all updates of a session; the last session where none is named",
        "SELECT segment_id, env_steps, name, value FROM metrics "
        f"WHERE name = coalesce(nullif(:metric, ''), 'entropy') AND {_SESSION} ORDER BY segment_id, env_steps",
    ),
    "unsupported": (
        "Words of agents in which code found something that the record does not support",
        "SELECT claims.session_id, round, agent, about, marks.body AS marks, words.body AS words FROM claims "
        "JOIN bodies AS marks ON marks.hash = claims.marks JOIN bodies AS words ON words.hash = claims.words "
        "WHERE marks.body <> '[]' ORDER BY claims.session_id DESC, round",
    ),
}
"""Name -> title and SQL. ``:session`` and ``:metric`` are asked for in the browser."""


def metadata(database: str) -> dict[str, Any]:
    """What Datasette is told of a log; ``database`` is the name of its file without ending."""
    queries = {name: {"title": title, "sql": sql} for name, (title, sql) in QUERIES.items()}
    about = "The log of learning-signal; ledger/schema.py describes every column."
    return {"databases": {database: {"description": about, "queries": queries, "allow_download": False}}}


def app(ledger: Path) -> Any:
    """A ``Datasette`` of the log, read-only.

    Raises:
        ExportError: Datasette is not installed.
    """
    application = of_extra("datasette.app", "datasette")
    plugins = of_extra("datasette.plugins", "datasette")
    if not plugins.pm.has_plugin(PLUGIN):
        plugins.pm.register(_functions(of_extra("datasette", "datasette").hookimpl), name=PLUGIN)
    return application.Datasette(files=[str(ledger)], metadata=metadata(ledger.stem))


def _functions(hook: Any) -> ModuleType:
    """The plugin that lets every connection read packed metrics and episodes."""
    plugin = ModuleType(PLUGIN)
    vars(plugin)["prepare_connection"] = hook(lambda conn: add_functions(conn))
    return plugin


def serve(ledger: Path, port: int, tell: Callable[[str], None]) -> None:
    """Serve the log to browsers on this machine until Ctrl-C; ``tell`` is given its address first.

    Raises:
        ExportError: Datasette is not installed.
        NotServed: the port cannot be used.
    """
    inner = app(ledger).app()
    uvicorn = of_extra("uvicorn", "datasette")
    with closing(listening(HERE, port)) as taken:
        tell(f"http://{HERE}:{taken.getsockname()[1]}/")
        server = uvicorn.Server(uvicorn.Config(only_here(inner), log_level="warning"))
        server.run(sockets=[taken])


def only_here(inner: Any) -> Any:
    """The application behind a check of the name it is asked by: no page elsewhere reads the log through a browser."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            asked = dict(scope["headers"]).get(b"host", b"").decode("latin-1").rpartition(":")
            if (asked[0] or asked[2]) not in HOSTS:
                await send(
                    {"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]}
                )
                await send({"type": "http.response.body", "body": b"Ask for this log on this machine: 127.0.0.1."})
                return
        await inner(scope, receive, send)

    return checked
