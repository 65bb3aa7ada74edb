"""One way to name a thing by its content: the tagged hash of its canonical JSON.

The canonical form is a contract (ARCHITECTURE.md, "Names"): changing it renames every call that was ever
paid for, so `tests/test_digests.py` pins it to literal digests.

    canonical({"b": 1.0, "a": "é"})   ->  '{"a":"é","b":1.0}'
    tagged("solon.call/1", {...})     ->  64 hex digits of sha256 over canonical([tag, value]) in UTF-8

Numbers are written as Python's `repr` writes them. Text is named as it stands: no Unicode normalisation, and half a
character (a lone surrogate, which the JSON of a prompt file may hold) has a name too, by the three bytes that
`surrogatepass` writes for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

__all__ = ["canonical", "tagged", "uniform", "uniforms", "whole"]

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical(value: Any) -> str:
    """Return `value` as canonical JSON: keys sorted, no blanks, text as it is (not escaped), NaN refused.

    Raises ValueError on NaN or infinity, TypeError on what JSON cannot say.
    """
    return _ENCODER.encode(value)


def tagged(tag: str, value: Any) -> str:
    """Return the sha256 (64 hex digits) of canonical([tag, value]): equal content under two tags has two names."""
    return hashlib.sha256(canonical([tag, value]).encode("utf-8", "surrogatepass")).hexdigest()


def uniform(*parts: str | int) -> float:
    """Return a number in the open interval (0, 1), decided by `parts` alone: 52 bits of blake2b.

    Never 0 or 1, so that its logarithm exists and is not 0: with 53 bits the greatest number would round to 1.
    """
    *first, last = parts or ("",)
    return uniforms(*first)(str(last))


def uniforms(*parts: str | int) -> Callable[[str], float]:
    """Return a function whose value for `last` is `uniform(*parts, last)`: what they share is hashed once."""
    begun = hashlib.blake2b("".join(f"{part}\x1f" for part in parts).encode("utf-8", "surrogatepass"), digest_size=8)

    def of(last: str) -> float:
        ended = begun.copy()
        ended.update(last.encode("utf-8", "surrogatepass"))
        return ((int.from_bytes(ended.digest(), "big") >> 12) + 0.5) / (1 << 52)

    return of


def whole(text: str) -> str:
    """Return `text` with half characters (lone surrogates), which no file can hold, as U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
