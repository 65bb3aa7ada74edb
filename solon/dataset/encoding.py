"""Rows and outcomes as they are written: exact JSON, and the last gate before data.

What is written here is read back equal to what it was, half characters (lone surrogates) and all, so that a walk
can be shown as it happened. The gate decides what may count as a pair at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from solon.calls import Message
from solon.rows import Asked, Draft, Draw, Pair, Prompt, Row, SetAside, Vote

__all__ = ["decode_outcome", "decode_row", "encode_outcome", "encode_row", "gate"]

_PARTS: dict[str, type] = {"votes": Vote, "drafts": Draft, "asked": Asked}
_NAMES: dict[type, tuple[str, ...]] = {
    kind: tuple(field.name for field in fields(kind)) for kind in (Vote, Draft, Asked, Pair, SetAside)
}
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def _encode(value: Any) -> bytes:
    # surrogatepass: half a character from a model is written down too, rather than losing its row
    return _JSON.encode(value).encode("utf-8", "surrogatepass")


def _decode(content: bytes) -> Any:
    return json.loads(bytes(content).decode("utf-8", "surrogatepass"))


def encode_row(prompt: Prompt, draws: Iterable[Draw]) -> bytes:
    """Return a planned row, without its index."""
    return _encode(
        {
            "messages": [[message.role, message.content] for message in prompt.messages],
            "tags": prompt.tags,
            "draws": [[draw.step, draw.principle, draw.digest] for draw in draws],
        }
    )


def decode_row(index: int, content: bytes, id: str | None = None) -> Row:
    """Return the row that `encode_row` wrote; its `id` saves taking the hash again.

    Raises ValueError, KeyError or TypeError on anything else.
    """
    value = _decode(content)
    prompt = Prompt(
        tuple(Message(role, text) for role, text in value["messages"]),
        tuple(value["tags"]),
    )
    if id is not None:
        prompt.__dict__["id"] = id
    return Row(index, prompt, tuple(Draw(*draw) for draw in value["draws"]))


def encode_outcome(outcome: Pair | SetAside) -> bytes:
    """Return an outcome, without its row."""
    kind = type(outcome)
    value: dict[str, Any] = {"kind": "pair" if kind is Pair else "set_aside"}
    for name in _NAMES[kind]:
        if name in _PARTS:
            columns = _NAMES[_PARTS[name]]
            value[name] = [{column: getattr(part, column) for column in columns} for part in getattr(outcome, name)]
        elif name != "row":
            value[name] = getattr(outcome, name)
    return _encode(value)


def decode_outcome(row: Row, content: bytes) -> Pair | SetAside:
    """Return the outcome of `row` that `encode_outcome` wrote. Raises as `decode_row`."""
    value = dict(_decode(content))
    kind = {"pair": Pair, "set_aside": SetAside}[value.pop("kind")]
    for name, part in _PARTS.items():
        value[name] = tuple(part(**columns) for columns in value[name])
    outcome: Pair | SetAside = kind(row=row, **value)
    return outcome


def gate(outcome: Pair | SetAside) -> Pair | SetAside:
    """Return `outcome`, or a SetAside for a pair that no trainer should ever see.

    Stories look at this themselves; here it holds whatever a story forgot. A pair needs two texts that are there,
    whole, and different beyond the white space around them, and a judge who prefers the chosen one.
    """
    if isinstance(outcome, SetAside):
        return outcome
    why = _no_pair(outcome)
    if why is None:
        return outcome
    return SetAside(outcome.row, *why, outcome.drafts, outcome.votes, outcome.asked)


def _no_pair(pair: Pair) -> tuple[str, str] | None:
    for side in ("chosen", "rejected"):
        text = getattr(pair, side)
        if not isinstance(text, str) or not text.strip():
            return "empty_answer", f"the {side} text is empty"
        if _half_character(text):
            return "unreadable_answer", f"the {side} text holds half a character"
    if pair.chosen.strip() == pair.rejected.strip():
        revised = "revision" in pair.chosen_draft + pair.rejected_draft
        return "unchanged" if revised else "equal_candidates", "chosen and rejected are the same text"
    if not pair.p_chosen > 0.5:
        return "tie", f"P(chosen is better) = {pair.p_chosen}"
    return None


def _half_character(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
