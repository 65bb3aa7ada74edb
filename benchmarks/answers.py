"""What the load server says: answers that hang on a hash of the whole question, in both providers' words.

    digest = digest_of("/v1/chat/completions", body)     equal questions have equal digests, whatever the keys' order
    said("/v1/chat/completions", body, digest)           the JSON that a provider would answer
    spoiled("empty", path, body, digest)                 the same with one thing wrong

So a run that was killed and started again gets the very answers of an unbroken one, and different questions get
different ones. Labels (`logprobs`) get a probability, a schema gets JSON that keeps it.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

__all__ = ["CONTENT", "digest_of", "said", "share_of", "spoiled"]

ANTHROPIC = "/v1/messages"
CONTENT = ("choices", "empty", "junk", "length", "malformed", "refusal", "type")
"""What can be wrong with an answer whose status is 200 and whose body arrives whole."""

WORDS = """
a about after all also and another any are as ask at be because before both but by call can care come day do each
even fair find first for from get give go good great hand have help here home how idea if in into it just keep
kind know learn like listen look make many mind more much need new next now
"""
VOCABULARY = WORDS.split()  # 64 words: one for each value of six bits
assert len(VOCABULARY) == 64
# junk: the loops that small models fall into, and that no reader takes for an answer
JUNK = "and so on and so on "


def digest_of(path: str, body: Any) -> str:
    """Return what a question is known by: 32 hexadecimal digits of its canonical JSON."""
    text = path + json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def share_of(*parts: object) -> float:
    """Return a number in [0, 1) that a hash of `parts` decides."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def words(digest: str, count: int = 64) -> str:
    """Return `count` words and the digest's beginning, which makes two answers differ wherever their questions do."""
    picked = [VOCABULARY[byte & 63] for byte in hashlib.shake_128(digest.encode()).digest(count)]
    return f"{' '.join(picked)} {digest[:12]}."


def said(path: str, body: dict[str, Any], digest: str) -> dict[str, Any]:
    """Return the provider's JSON for one question."""
    schema = _schema_in(body)
    if path == ANTHROPIC:
        text = json.dumps(_made(schema, digest)) if schema else words(digest)
        return _message(body, digest, [{"type": "text", "text": text}], "end_turn")
    if body.get("logprobs"):
        p = (1 + int(digest[:8], 16)) / (2 + 0xFFFFFFFF)
        tops = [{"token": "A", "logprob": math.log(p)}, {"token": "B", "logprob": math.log(1 - p)}]
        tops.sort(key=lambda top: -top["logprob"])
        shown = {"content": [{**tops[0], "top_logprobs": tops}]}
        return _completion(body, digest, {"content": tops[0]["token"]}, logprobs=shown)
    text = json.dumps(_made(schema, digest)) if schema else words(digest)
    return _completion(body, digest, {"content": text})


def spoiled(kind: str, path: str, body: dict[str, Any], digest: str) -> tuple[str, bytes]:
    """Return content type and body of an answer of status 200 that is none; `kind` is one of CONTENT."""
    if kind == "type":
        return "text/html", b"<html><body><h1>Welcome</h1>The gateway is being mended.</body></html>"
    good = said(path, body, digest)
    if kind == "malformed":
        whole = json.dumps(good)
        return "application/json", whole[: len(whole) * 2 // 3].encode()
    claude = path == ANTHROPIC
    if kind == "choices":
        good["content" if claude else "choices"] = []
    else:
        half = " ".join(words(digest).split()[:20])
        text, stop = {
            "empty": ("", "stop"),
            "junk": (JUNK * 40, "stop"),
            "length": (half, "length"),
            "refusal": ("I will not answer that.", "refusal"),
        }[kind]
        if claude:
            ends = {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal"}
            good = _message(body, digest, [{"type": "text", "text": text}] if text else [], ends[stop])
        elif kind == "refusal":
            good = _completion(body, digest, {"content": None, "refusal": text}, "content_filter")
        else:
            good = _completion(body, digest, {"content": text}, stop)
    return "application/json", json.dumps(good).encode()


def _completion(
    body: dict[str, Any], digest: str, message: dict[str, Any], finish: str = "stop", *, logprobs: Any = None
) -> dict[str, Any]:
    given, taken = _tokens(body), max(1, len(message.get("content") or "") // 4)
    return {
        "id": f"chatcmpl-{digest[:24]}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body.get("model", "tiny"),
        "choices": [
            {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, "logprobs": logprobs}
        ],
        "usage": {"prompt_tokens": given, "completion_tokens": taken, "total_tokens": given + taken},
    }


def _message(body: dict[str, Any], digest: str, blocks: list[dict[str, Any]], stop: str) -> dict[str, Any]:
    return {
        "id": f"msg_{digest[:24]}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "tiny"),
        "content": blocks,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": _tokens(body), "output_tokens": sum(len(block["text"]) for block in blocks) // 4},
    }


def _tokens(body: dict[str, Any]) -> int:
    return sum(len(str(message.get("content"))) for message in body.get("messages", ())) // 4


def _schema_in(body: dict[str, Any]) -> dict[str, Any] | None:
    asked = body.get("response_format") or (body.get("output_config") or {}).get("format") or {}
    inner = asked.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else asked.get("schema")
    return schema if isinstance(schema, dict) else None


def _made(schema: dict[str, Any], digest: str, place: str = "") -> Any:
    """Return a value that keeps `schema` (the parts of JSON Schema that providers take), decided by the digest."""
    share = share_of(digest, place)
    if "const" in schema:
        return schema["const"]
    if choices := schema.get("enum"):
        return choices[int(share * len(choices))]
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return _made(options[int(share * len(options))], digest, place)
    kind = schema.get("type")
    if kind == "object":
        wanted = schema.get("properties", {})
        return {name: _made(part, digest, f"{place}/{name}") for name, part in wanted.items()}
    if kind == "array":
        count = max(schema.get("minItems", 1), 1)
        return [_made(schema.get("items", {}), digest, f"{place}/{number}") for number in range(count)]
    if kind in ("number", "integer"):
        low = schema.get("minimum", 0)
        high = schema.get("maximum", low + 10)
        return low + int(share * (high - low + 1)) if kind == "integer" else low + share * (high - low)
    if kind == "boolean":
        return share < 0.5
    return None if kind == "null" else words(digest + place, 12)
