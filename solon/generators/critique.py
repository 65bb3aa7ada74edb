"""Criticise an answer by a principle (Bai et al. 2022, section 3.1).

A critic that is asked by a schema (`structured` in its role of the recipe) answers {"critique": "..."}: what it writes
behind a critique, a revision mostly, has no place there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

from solon.calls import Message
from solon.cast import Player, Said
from solon.digests import canonical, tagged
from solon.errors import BadInput
from solon.generators.dialogue import Round, Shot, document, turns
from solon.markup import STOPS

__all__ = ["STRUCTURED", "critique", "critique_in"]


async def critique(
    player: Player,
    prompt: Sequence[Message],
    response: str,
    request: str,
    *,
    shots: Sequence[Shot] = (),
    step: str,
) -> Said:
    """Return what the critic says of `response` when asked by `request`, a principle's wording for the critic."""
    asked = Round(request)
    if player.form == "text":
        if player.structured:
            raise BadInput(f"{player.name}: a base model (form: text) takes no schema; write `structured: false`")
        return await player([Message("text", document(prompt, response, asked, shots))], step=step, stop=STOPS)
    messages = turns(prompt, response, asked, shots)
    if not player.structured:
        return await player(messages, step=step)
    last = replace(messages[-1], content=f"{messages[-1].content} {IN_JSON}")
    return await player([*messages[:-1], last], step=step, schema=SCHEMA, read=critique_in)


def critique_in(text: str) -> str:
    """Return the critique inside of {"critique": "..."}, as far as it goes where the answer was cut.

    A server that keeps no schema may answer in plain words: those are the critique then. JSON without a critique
    is none.
    """
    bare = _FENCED.sub(r"\1", text.strip())
    if not bare.startswith("{"):
        return text
    try:
        content = json.loads(bare, strict=False)
    except (ValueError, RecursionError):
        begun = _BEGUN.match(bare)
        words: str = json.loads(f'"{begun[1]}"', strict=False) if begun else ""
        return words[:-1] if "\ud800" <= words[-1:] <= "\udbff" else words  # cut within one character
    said = content.get("critique")
    return said if isinstance(said, str) else ""


_FENCED = re.compile(r"^```(?:json)?\s*(\{.*?)\s*(?:```)?$", re.DOTALL)
_BEGUN = re.compile(r'\{\s*"critique"\s*:\s*"((?:[^"\\]|\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt]))*)')

IN_JSON = 'Reply in JSON: {"critique": "..."}.'
SCHEMA = canonical(
    {
        "type": "object",
        "properties": {"critique": {"type": "string"}},
        "required": ["critique"],
        "additionalProperties": False,
    }
)

STRUCTURED = tagged("solon.templates/1", [IN_JSON, SCHEMA])[:16]
"""What is said and asked of such a critic, by digest: part of the name of the plans that have one."""
