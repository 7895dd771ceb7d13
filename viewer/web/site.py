"""The live page as a web application: its addresses, and what each answers.

Every request reads the log by a connection of its own, read-only. What a person tells a session goes into its inbox
(`ledger.inbox`), as from the commands ``approve``, ``reject`` and ``say``.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlencode

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.events.pages import page_with
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.wording import command, ledger_option
from learning_signal.viewer.page.report import session_page
from learning_signal.viewer.page.templates import environment
from learning_signal.viewer.reports.session_plot import STYLE as PLOT_STYLE
from learning_signal.viewer.telling import answer, say, when
from learning_signal.viewer.web import looks
from learning_signal.viewer.web.guard import Door, Guard
from learning_signal.viewer.web.stream import list_changes, session_changes

Drawings = Callable[[Reader, str], Mapping[str, Any]]
"""What is drawn of a session besides its log, see ``viewer.page.report``."""
THROUGH = "the live page"
"""How a session names what tells it something from here."""
LARGEST_FORM = 20_000
"""Bytes of a form, more than the longest sentence takes."""
STREAMS = 40
"""Most open pages that follow a log at once."""
STATIC = {
    "htmx.min.js": ("learning_signal.viewer.web", "text/javascript"),
    "live.js": ("learning_signal.viewer.web", "text/javascript"),
    "live.css": ("learning_signal.viewer.web", "text/css"),
    "packed.js": ("learning_signal.viewer.page", "text/javascript"),
    "player.js": ("learning_signal.viewer.page", "text/javascript"),
    "page.css": ("learning_signal.viewer.page", "text/css"),
}
_PLOT = "sha256-" + base64.b64encode(hashlib.sha256(PLOT_STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' '{_PLOT}'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def site(ledger: Path, door: Door, drawings: Drawings) -> Guard:
    """The application; ``door`` says who may ask it."""
    return Guard(_Site(ledger, drawings).application(), door, POLICY)


class _Site:
    def __init__(self, ledger: Path, drawings: Drawings) -> None:
        self._ledger, self._drawings = ledger, drawings
        self._templates = environment("learning_signal.viewer.web", "learning_signal.viewer.page")
        self._drawing = threading.Lock()
        self._drawn: dict[tuple[str, int], Mapping[str, Any]] = {}
        self._streams = 0

    def application(self) -> Starlette:
        """The addresses, and the pages of what goes wrong."""
        routes = [
            Route("/", self.sessions),
            Route("/changes", self.changes),
            Route("/search", self.search),
            Route("/compare", self.compare),
            Route("/event/{seq:int}", self.event),
            Route("/event/{seq:int}/there", self.there),
            Route("/event/{seq:int}/behind", self.behind),
            Route("/session/{session}", self.session),
            Route("/session/{session}/now", self.now),
            Route("/session/{session}/changes", self.changes_of),
            Route("/session/{session}/about", self.about),
            Route("/session/{session}/report.html", self.report),
            Route("/session/{session}/R{round:int}", self.decision),
            Route("/session/{session}/R{round:int}/drawn", self.drawn),
            Route("/session/{session}/approve", self.approve, methods=["POST"]),
            Route("/session/{session}/reject", self.reject, methods=["POST"]),
            Route("/session/{session}/say", self.say, methods=["POST"]),
            Route("/static/{name}", self.static),
        ]
        handlers: dict[Any, Any] = {
            LedgerError: self._not_there,
            HTTPException: self._not_there,
            Exception: self._not_there,
        }
        return Starlette(routes=routes, exception_handlers=handlers)

    # pages ----------------------------------------------------------------------------------------

    def sessions(self, request: Request) -> Response:
        """All sessions, newest first."""
        with self._reader() as reader:
            return self._page(request, "sessions.html", looks.sessions(reader, _whole(request, "page") or 1))

    def session(self, request: Request) -> Response:
        """One session: how it stands, and a page of its transcript; a search in the latter changes that alone."""
        filters = _filters(request)
        with self._reader() as reader:
            row = reader.session(request.path_params["session"])
            story = looks.transcript(reader, row, _whole(request, "page"), filters)
            if request.headers.get("hx-target") == "transcript":
                return self._page(request, "transcript.html", story | _links(request, story))
            values = story | looks.now(reader, row) | _links(request, story)
        return self._page(request, "session.html", values)

    def now(self, request: Request) -> Response:
        """How a session stands."""
        with self._reader() as reader:
            return self._page(request, "now.html", looks.now(reader, reader.session(request.path_params["session"])))

    def about(self, request: Request) -> Response:
        """Costs and configuration of a session."""
        with self._reader() as reader:
            return self._page(request, "about.html", looks.about(reader, request.path_params["session"]))

    def decision(self, request: Request) -> Response:
        """One decision in full."""
        with self._reader() as reader:
            values = looks.decision(reader, request.path_params["session"], request.path_params["round"])
        return self._page(request, "decision_page.html", values)

    def drawn(self, request: Request) -> Response:
        """The shapings of a decision over the task's drawing, and the episodes around it."""
        round_ = request.path_params["round"]
        with self._reader() as reader:
            identity = reader.session_id(request.path_params["session"])
            drawn = self._drawings_of(reader, identity)
            return self._page(request, "drawn.html", looks.decision(reader, identity, round_, drawn))

    def event(self, request: Request) -> Response:
        """One event in full; a model call as it was sent and answered."""
        with self._reader() as reader:
            return self._page(request, "event.html", looks.event(reader, request.path_params["seq"]))

    def there(self, request: Request) -> Response:
        """To the event in its transcript."""
        seq = request.path_params["seq"]
        with self._reader() as reader:
            session = reader.entry(seq).event.session_id
            number = page_with(reader, session, seq, looks.EVENTS)
        return RedirectResponse(f"/session/{session}?page={number}#e{seq}", 303)

    def behind(self, request: Request) -> Response:
        """The inside of an event."""
        with self._reader() as reader:
            return self._page(request, "behind.html", looks.behind(reader, request.path_params["seq"]))

    def search(self, request: Request) -> Response:
        """Where words occur in all sessions, or in one."""
        given = request.query_params
        with self._reader() as reader:
            values = looks.hits(reader, given.get("text", ""), given.get("session", ""))
        return self._page(request, "search.html", values)

    def compare(self, request: Request) -> Response:
        """Two sessions side by side."""
        given = request.query_params
        with self._reader() as reader:
            values = looks.comparison(reader, given.get("first", ""), given.get("second", ""))
        return self._page(request, "compare.html", values)

    def report(self, request: Request) -> Response:
        """The report of a session, as one file to keep."""
        with self._reader() as reader:
            identity = reader.session_id(request.path_params["session"])
            page = session_page(reader, identity)
        named = {"Content-Disposition": f'attachment; filename="{identity}.html"'}
        return HTMLResponse(page, headers=named)

    def static(self, request: Request) -> Response:
        """A script or style of ours."""
        found = STATIC.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        content = (files(found[0]) / "static" / request.path_params["name"]).read_bytes()
        return Response(content, media_type=found[1])

    # what comes -----------------------------------------------------------------------------------

    async def changes(self, request: Request) -> Response:
        """What changes in the list of sessions, as it happens."""
        return self._stream(list_changes(self._ledger, looks.SESSIONS))

    async def changes_of(self, request: Request) -> Response:
        """What happens in a session, as it happens."""
        given = request.headers.get("last-event-id") or request.query_params.get("after", "0")
        if not (given.isascii() and given.isdigit() and len(given) < 19):
            raise HTTPException(400, "Found no number in 'after', expected that of an event.")
        session = request.path_params["session"]
        with self._reader() as reader:
            identity = reader.session_id(session)
        found = session_changes(self._ledger, identity, int(given), _filters(request), looks.event_html)
        return self._stream(found)

    def _stream(self, messages: Any) -> Response:
        if self._streams >= STREAMS:
            raise HTTPException(503, f"{STREAMS} pages follow this log already, expected fewer: close some.")

        async def counted() -> Any:
            self._streams += 1
            try:
                yield b"retry: 2000\n\n"
                async for each in messages:
                    yield each
            finally:
                self._streams -= 1

        return StreamingResponse(counted(), media_type="text/event-stream")

    # what is told ---------------------------------------------------------------------------------

    async def approve(self, request: Request) -> Response:
        """Approve the promotion that a session asks about."""
        return await self._answer(request, "approve")

    async def reject(self, request: Request) -> Response:
        """Reject the promotion that a session asks about."""
        return await self._answer(request, "reject")

    async def _answer(self, request: Request, kind: Literal["approve", "reject"]) -> Response:
        given = await self._told(request)
        row, found, _ = answer(self._ledger, kind, given.get("question", ""), given.get("reason", ""), THROUGH)
        return self._page(request, "told.html", {"sentence": f"{kind.capitalize()}: sent to {found.id}{when(row)}."})

    async def say(self, request: Request) -> Response:
        """Say something to the agents of a session."""
        given = await self._told(request)
        row, _ = say(self._ledger, request.path_params["session"], given.get("text", ""), THROUGH)
        sentence = f"Said to session {row.id}, whose next agent reads it in its brief{when(row)}."
        return self._page(request, "told.html", {"sentence": sentence})

    async def _told(self, request: Request) -> dict[str, str]:
        """The form of who may tell a session something."""
        if not request.state.may_tell:
            raise HTTPException(403, "This page only reads: open the address with the token that 'view' printed.")
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_FORM:
                raise HTTPException(413, f"Found a form of more than {LARGEST_FORM:,} bytes: shorten the text.")
        try:
            found = parse_qs(body.decode("utf-8"), errors="strict", max_num_fields=8)
        except ValueError as error:
            raise HTTPException(400, f"Found a form that cannot be read ({type(error).__name__}).") from None
        return {name: values[-1] for name, values in found.items()}

    # shared ---------------------------------------------------------------------------------------

    def _reader(self) -> Reader:
        return Reader.open(self._ledger)

    def _drawings_of(self, reader: Reader, session: str) -> Mapping[str, Any]:
        """Drawn once for every decision of a session, and one session after the other: it plays episodes."""
        key = (session, len(reader.decisions(session)))
        with self._drawing:
            if key not in self._drawn:
                self._drawn.clear()
                self._drawn[key] = self._drawings(reader, session)
            return self._drawn[key]

    def _page(self, request: Request, template: str, values: Mapping[str, Any]) -> Response:
        session = request.path_params.get("session") or values.get("session")
        shared = {
            "may_tell": request.state.may_tell,
            "here": request.url.path,
            "view_command": command("view") + ledger_option(self._ledger),
            "of_session": session,
        }
        return HTMLResponse(self._templates.get_template(template).render(shared | dict(values)))

    def _not_there(self, request: Request, error: Exception) -> Response:
        match error:
            case HTTPException():
                status, sentence = error.status_code, error.detail
            case LedgerError():
                status, sentence = 404, str(error)
            case _:
                status = 500
                sentence = f"This page cannot be made ({type(error).__name__}): 'log verify' says what is damaged."
        if request.headers.get("hx-request"):  # it goes into a page that is open
            return PlainTextResponse(looks.clean(sentence), status)
        return HTMLResponse(self._templates.get_template("refused.html").render(sentence=looks.clean(sentence)), status)


def _whole(request: Request, name: str) -> int | None:
    """A number of the address; None where it has none that can be read."""
    given = request.query_params.get(name, "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 10 else None


def _filters(request: Request) -> dict[str, Any]:
    """The filters of a transcript, None where one is not given."""
    found: dict[str, Any] = {name: request.query_params.get(name) or None for name in looks.FILTERS}
    return found | {"round": _whole(request, "round")}


def _links(request: Request, story: Mapping[str, Any]) -> dict[str, Any]:
    """The addresses beside a page of a transcript, which keep its filters."""
    page, kept = story["page"], {name: each for name, each in story["filters"].items() if each is not None}
    base = f"/session/{story['row'].id}"

    def of(number: int) -> str | None:
        return f"{base}?{urlencode(kept | {'page': number})}" if 1 <= number <= page.pages else None

    follows = f"{base}/changes?{urlencode(kept | {'after': story['last']})}" if page.is_last else None
    beside = {"first": of(1), "before": of(page.number - 1), "after": of(page.number + 1), "final": of(page.pages)}
    return {"beside": beside, "follows": follows}
