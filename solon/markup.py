r"""The paper's turn markup, for base models that continue documents (Bai et al. 2022).

    \n\nHuman: ...\n\nAssistant: ...\n\nCritiqueRequest: ...\n\nCritique: ...\n\nRevisionRequest: ...\n\nRevision: ...

Every turn starts with two line feeds and its name; a document that asks for a turn ends in the name and a colon.
Whatever stands between is byte for byte what the released transcripts have there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from solon.calls import Message

__all__ = ["INNER_NAMES", "STOPS", "ask_for", "conversation", "own_turn", "turn"]

STOPS = ("\n\nHuman:", "\n\nAssistant:", "\n\nCritiqueRequest:", "\n\nRevisionRequest:")
"""Where a base model has finished its turn and begins to play the next one. Servers take four at most."""

_NAMES = {"user": "Human", "assistant": "Assistant"}
INNER_NAMES = {"user": "H", "assistant": "A"}
"""For a conversation that is quoted inside a turn of another one."""

_ANY_TURN = re.compile(r"\n\n(?:Human|Assistant|CritiqueRequest|Critique|RevisionRequest|Revision):")


def turn(name: str, words: str) -> str:
    """Return one turn: `turn("Human", "Hi")` is "\\n\\nHuman: Hi"."""
    return f"\n\n{name}: {words}"


def ask_for(name: str) -> str:
    """Return the end of a document that asks for a turn: "\\n\\nCritique:"."""
    return f"\n\n{name}:"


def own_turn(text: str) -> str:
    """Return a base model's answer up to where it begins to play another turn, by any of the six names."""
    other = _ANY_TURN.search(text)
    return text[: other.start()] if other else text


def conversation(messages: Sequence[Message], names: Mapping[str, str] = _NAMES) -> str:
    """Return the turns of a conversation; a system message stands before them as a paragraph without a name."""
    return "".join(
        f"\n\n{message.content}" if message.role == "system" else turn(names[message.role], message.content)
        for message in messages
    )
