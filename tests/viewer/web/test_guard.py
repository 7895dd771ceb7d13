"""Who may ask the live page: its names, its own pages, and holders of its token."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from learning_signal.viewer.web.guard import HEADERS, Door, Guard
from learning_signal.viewer.web.listening import NotServed
from learning_signal.viewer.web.server import refuse_open_doors

TOKEN = "a-token_of-32-characters-or-more"


async def inner(scope: Any, receive: Any, send: Any) -> None:
    await JSONResponse({"may_tell": scope["state"]["may_tell"]})(scope, receive, send)


def client(to_read: bool = False, host: str = "127.0.0.1") -> TestClient:
    door = Door(TOKEN, to_read=to_read, host=host, port=8642)
    return TestClient(
        Guard(inner, door, "default-src 'none'"), base_url="http://127.0.0.1:8642", follow_redirects=False
    )


@pytest.mark.parametrize(
    ("host", "to_read", "status"),
    [
        ("127.0.0.1:8642", False, 200),
        ("localhost:8642", False, 200),
        ("LOCALHOST", False, 200),
        ("[::1]:8642", False, 200),
        ("evil.example:8642", False, 403),
        ("127.0.0.1.evil.example", False, 403),
        ("10.0.0.7:8642", False, 403),
        ("[::1", False, 403),
        ("", False, 403),
        ("10.0.0.7:8642", True, 401),
        ("evil.example:8642", True, 403),
    ],
)
def test_it_answers_under_the_names_of_this_machine_alone(host: str, to_read: bool, status: int) -> None:
    assert client(to_read).get("/", headers={"host": host}).status_code == status


def test_the_token_moves_from_the_address_into_a_cookie_that_scripts_and_other_pages_do_not_get() -> None:
    asked = client()
    assert asked.get("/").json() == {"may_tell": False}
    entered = asked.get(f"/session/x%20y?page=2&token={TOKEN}")
    assert entered.status_code == 303 and entered.headers["location"] == "/session/x%20y?page=2"
    cookie = entered.headers["set-cookie"]
    assert cookie.startswith(f"learning-signal-8642={TOKEN};")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert asked.get("/").json() == {"may_tell": True}


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example/", "/%5cevil.example"])
def test_the_token_leads_to_no_other_host(path: str) -> None:
    scope = {"type": "http", "method": "GET", "path": path, "query_string": f"token={TOKEN}".encode()}
    scope |= {"headers": [(b"host", b"127.0.0.1:8642")]}
    told: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    guard = Guard(inner, Door(TOKEN, False, "127.0.0.1", 8642), "")
    asyncio.run(guard(scope, None, send))  # type: ignore[arg-type]
    location = dict(told[0]["headers"])[b"location"].decode()
    assert told[0]["status"] == 303 and location.startswith("/") and location[1:2] not in ("/", "\\")


def test_a_wrong_token_sets_nothing() -> None:
    answer = client().get("/?token=wrong")
    assert answer.status_code == 401 and "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://127.0.0.1:8642"}, 200),
        ({"origin": "http://localhost:8642"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({}, 403),
        ({"authorization": f"Bearer {TOKEN}"}, 200),
        ({"authorization": f"Bearer {TOKEN}", "sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_what_is_sent_comes_from_an_own_page_or_from_a_program_with_the_token(headers: dict, status: int) -> None:
    assert client().post("/", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [("cross-site", "no-cors", 403), ("cross-site", "cors", 403), ("cross-site", "navigate", 200),
     ("same-origin", "cors", 200), ("none", "navigate", 200)],
)  # fmt: skip
def test_another_page_leads_here_and_loads_nothing(site: str, mode: str, status: int) -> None:
    headers = {"sec-fetch-site": site, "sec-fetch-mode": mode}
    assert client().get("/", headers=headers).status_code == status


def test_where_readers_need_the_token_nothing_is_answered_without_it() -> None:
    asked = client(to_read=True, host="0.0.0.0")
    assert asked.get("/").status_code == 401
    assert asked.get("/", headers={"authorization": "Bearer wrong"}).status_code == 401
    assert asked.get("/", headers={"cookie": "learning-signal-8643=" + TOKEN}).status_code == 401
    assert asked.get("/", headers={"authorization": f"Bearer {TOKEN}"}).json() == {"may_tell": True}


def test_every_answer_has_the_headers_that_keep_other_pages_out() -> None:
    asked = client()
    for answer in (asked.get("/"), asked.get("/", headers={"host": "evil"}), asked.get("/?token=x"), asked.post("/")):
        assert answer.headers["content-security-policy"] == "default-src 'none'"
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS


@pytest.mark.parametrize(
    ("host", "token", "said"),
    [
        ("0.0.0.0", None, "without --auth-token"),
        ("::", None, "without --auth-token"),
        ("192.168.1.5", None, "without --auth-token"),
        ("0.0.0.0", "short", "of 5 characters"),
        ("127.0.0.1", "with a space in it, long enough", "letters, digits"),
    ],
)
def test_doors_that_stand_open_are_refused(host: str, token: str | None, said: str) -> None:
    with pytest.raises(NotServed, match=said):
        refuse_open_doors(host, token)


@pytest.mark.parametrize(("host", "token"), [("127.0.0.1", None), ("localhost", None), ("0.0.0.0", "x" * 16)])
def test_doors_that_are_kept_may_be_opened(host: str, token: str | None) -> None:
    refuse_open_doors(host, token)
