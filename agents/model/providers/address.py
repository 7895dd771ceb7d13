"""Addresses of servers: what one must look like, and the forms in which users write the same one."""

from __future__ import annotations

from urllib.parse import urlsplit

from learning_signal.agents.model.providers.spec import SpecError

EXPECTED = "expected http://host:port/v1 or https://host/v1"


def checked_address(text: str, whose: str = "the address of the backend") -> str:
    """``text`` as an address, without spaces around it and without '/' at its end.

    Raises:
        SpecError: it is none, or has a user name, password, key or query in it, which are not repeated.
    """
    address = text.strip()
    subject = whose[:1].upper() + whose[1:]
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise SpecError(f"{subject} is not a valid URL; {EXPECTED}.") from None
    if parts.username is not None or parts.password is not None:
        raise SpecError(
            f"{subject} must not contain a user name, password or key; put the key into an environment variable and "
            "name it with '?api_key_env=NAME'."
        )
    if not parts.scheme or not parts.netloc and "://" not in address:
        raise SpecError(f"{subject} has no scheme; {EXPECTED}.")
    if parts.scheme not in ("http", "https"):
        raise SpecError(f"{subject} starts with {parts.scheme}://; {EXPECTED}.")
    if not parts.hostname or port == 0 or any(not "!" <= character for character in address):
        raise SpecError(f"{subject} names no host or a wrong port; {EXPECTED}.")
    if parts.fragment:
        raise SpecError(f"{subject} contains '#'; {EXPECTED}.")
    if parts.query:
        raise SpecError(f"{subject} contains '?'; of a query '?api-version=…' in the spec is sent, nothing else.")
    return address.rstrip("/")


def with_version(address: str) -> str:
    """``address`` with ``/v1`` where it has no path: the root of servers that speak OpenAI's protocol."""
    return address if urlsplit(address).path.strip("/") else f"{address.rstrip('/')}/v1"


def without_version(address: str) -> str:
    """``address`` without ``/v1`` at its end, which Anthropic's SDK adds itself."""
    return address.rstrip("/").removesuffix("/v1")
