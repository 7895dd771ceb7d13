"""Between here and a server: proxies of the environment, and certificates.

Proxies are used for servers elsewhere, not for one on this machine, and named where they fail.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess

import pytest

from learning_signal.agents.model.specs import parse_spec
from learning_signal.agents.model.trial import check
from tests.support import scripted_server as wire
from tests.support.scripted_server import serving

READY = wire.call("report_status", '{"status": "ready"}')
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def checked(address=None):
    """What a check of a server says, and the requests that arrived; at ``address``, or at that of the server itself."""

    async def main():
        async with serving(READY) as server:
            spec = parse_spec(f"openai-api/m@{address or server.address}")
            return await check(spec, {}, timeout=20.0), server.requests

    return asyncio.run(main())


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("proxy", [NOBODY, "socks5://127.0.0.1:9", "nonsense://x"])
def test_a_server_on_this_machine_is_reached_without_a_proxy(monkeypatch, name, proxy):
    monkeypatch.setenv(name, proxy)
    result, requests = checked()
    assert result.ok and len(requests) == 1


def test_a_server_elsewhere_is_asked_through_the_proxy(monkeypatch):
    async def main():
        async with serving(READY) as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
            return await check(parse_spec("openai-api/m@http://model.invalid/v1"), {}, timeout=20.0), proxy.requests

    result, requests = asyncio.run(main())
    assert result.ok and requests[0].path == "http://model.invalid/v1/chat/completions"


def test_a_proxy_that_cannot_be_reached_is_named_and_not_the_server_blamed(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", NOBODY)
    result, _ = checked("http://model.invalid/v1")
    assert not result.ok
    assert "through the proxy of HTTP_PROXY; correct the proxy that HTTP_PROXY names" in result.sentence
    monkeypatch.setenv("NO_PROXY", "model.invalid")
    result, _ = checked("http://model.invalid/v1")
    assert not result.ok and "proxy" not in result.sentence


@pytest.mark.parametrize("proxy", ["socks5://user:secret@127.0.0.1:9", "nonsense://x", "http://host:port"])
def test_a_proxy_that_cannot_be_used_is_one_sentence(monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)
    result, _ = checked("http://model.invalid/v1")
    assert not result.ok and "ALL_PROXY names a proxy that cannot be used" in result.sentence
    assert "socksio" in result.sentence and "secret" not in result.sentence


@pytest.mark.skipif(
    shutil.which("openssl") is None and not os.environ.get("CI"), reason="no openssl to make a certificate with"
)
def test_a_certificate_that_is_not_trusted_is_said_once_and_an_authority_can_be_named(monkeypatch, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*make.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def main():
        async with serving(READY, tls=context) as server:
            address = server.address.replace("http://", "https://")
            return await check(parse_spec(f"openai-api/m@{address}"), {}, timeout=20.0), server.requests

    untrusted, requests = asyncio.run(main())
    assert not untrusted.ok and requests == []
    assert "shows a certificate" in untrusted.sentence and "self-signed" in untrusted.sentence
    assert "SSL_CERT_FILE" in untrusted.sentence
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    trusted, _ = asyncio.run(main())
    assert trusted.ok, trusted.sentence
