"""Values, JSON, text and bytes as nobody writes them in good faith; what is drawn depends on the generator alone."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

ESCAPES = "\x1b]0;OWNED\x07\x1b[31m\x1bc\x9b2J\u202e"
NUMBERS: tuple[int | float, ...] = (
    0, -1, 1, 2, 7.5, -0.0, 5e-324, 1e308, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**30, 10**400,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
WORDS = (
    "", " ", "x", "0", "1_000", "nan", "null", "true", "../../ESCAPED", "/nowhere/at/all", "latest", "'; --",
    "subprocess:getoutput?cmd=touch pwned", "os:system?command=touch pwned", "spread?agents=1000000", "a" * 100_000,
    "\u00e9\u4e2d\U0001f511", ESCAPES, "${IFS}`touch pwned`", "%s%n{0}{}", "\n\n\n", "-" * 40, "=1+1",
    "<script>1</script>",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, *NUMBERS, *WORDS, [], {}, [[]], [None], {"": None}, [0] * 1_000, {"a": {"b": {"c": []}}},
)  # fmt: skip
"""What a field of JSON may be set to."""
DEEP = "[" * 20_000 + "]" * 20_000


def changed_json(data: Any, random: Random) -> tuple[Any, str]:
    """``data`` with one node replaced, left out, repeated or moved; and what was done, in a few words."""
    data = copy.deepcopy(data)
    places = list(_places(data, "", 0))
    if not places:
        value = random.choice(VALUES)
        return value, f"is {shown(value)}"
    container, key, path = random.choice(places)
    kind = random.choice(("value",) * 6 + ("gone", "more", "other"))
    if kind == "gone":
        del container[key]
        return data, f"without {path}"
    if kind == "more" and isinstance(container, list):
        container.extend([container[key]] * 200)
        return data, f"{path} 200 times more"
    if kind == "more":
        container["unknown_" + str(key)] = container[key]
        return data, f"{path} beside an unknown key"
    if kind == "other":
        container[key] = copy.deepcopy(random.choice(places)[0])
        return data, f"{path} holds another part"
    container[key] = random.choice(VALUES)
    return data, f"{path} is {shown(container[key])}"


def _places(data: Any, path: str, depth: int) -> Any:
    """Every place of a value in ``data``: what holds it, its key there, and its path."""
    if depth < 8 and isinstance(data, (dict, list)):
        for key, value in list(data.items()) if isinstance(data, dict) else list(enumerate(data[:6])):
            here = f"{path}.{key}".lstrip(".")
            yield data, key, here
            yield from _places(value, here, depth + 1)


def changed_text(text: str, random: Random) -> tuple[str, str]:
    """A text of JSON or TOML as no parser expects it."""
    cases = {
        "empty": "",
        "null": "null",
        "a number": "5",
        "a list": "[]",
        "NaN": "NaN",
        "20,000 brackets": DEEP,
        "half of it": text[: len(text) // 2],
        "twice": text + text,
        "a number of 5,001 digits": "1" * 5_001,
        "half a surrogate pair": '"\\ud800"',
        "nulls": text.replace(" ", "\x00", 3),
        "control characters": ESCAPES + text,
    }
    name = random.choice(list(cases))
    return cases[name], name


def changed_bytes(data: bytes, random: Random) -> tuple[bytes, str]:
    """A file cut, overwritten in a few places, or with a part of it elsewhere."""
    size = len(data)
    kind = random.choice(("flips", "flips", "flips", "cut", "zeros", "moved", "head", "more"))
    place = random.randrange(size) if size else 0
    if kind == "cut":
        return data[:place], f"cut after {place} bytes"
    changed = bytearray(data)
    if kind == "flips":
        places = [random.randrange(size) for _ in range(random.choice((1, 4, 64)))] if size else []
        for each in places:
            changed[each] = random.randrange(256)
        return bytes(changed), f"{len(places)} bytes overwritten from {min(places, default=0)} on"
    length = random.choice((1, 16, 512, 4096))
    if kind == "zeros":
        changed[place : place + length] = bytes(min(length, size - place))
        return bytes(changed), f"{length} zeros at {place}"
    if kind == "moved":
        source = random.randrange(size) if size else 0
        changed[place : place + length] = data[source : source + length]
        return bytes(changed), f"{length} bytes of {source} at {place}"
    if kind == "head":
        return random.randbytes(length) + data[length:], f"a head of {length} random bytes"
    return data + random.randbytes(length), f"{length} bytes more"


def shown(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, int) and abs(value) > 10**30:
        return f"a number of {len(str(value))} digits"
    text = json.dumps(value, default=repr)
    return text if len(text) <= 48 else f"{text[:32]}... ({len(text)} characters)"


def as_json(value: Any) -> str:
    """JSON with all that Python's reader takes: NaN, infinity and numbers of any length."""
    return json.dumps(value)
