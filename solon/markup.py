"""The paper's turn markup, for base models that continue documents (Bai et al. 2022).

    \\n\\nHuman: ...\\n\\nAssistant: ...\\n\\nCritiqueRequest: ...\\n\\nCritique: ...\\n\\nRevisionRequest: ...\\n\\nRevision: ...

Every turn starts with two line feeds and its name; a document that asks for a turn ends in the name and a colon.
Whatever stands between is byte for byte what the released transcripts have there.
"""

from __future__ import annotations

from collections.abc import Sequence

from solon.calls import Message

__all__ = ["STOPS", "ask_for", "conversation", "turn"]

STOPS = ("\n\nHuman:", "\n\nAssistant:", "\n\nCritiqueRequest:", "\n\nRevisionRequest:")
"""Where a base model has finished its turn and begins to play the next one."""

_NAMES = {"user": "Human", "assistant": "Assistant"}


def turn(name: str, words: str) -> str:
    """Return one turn: `turn("Human", "Hi")` is "\\n\\nHuman: Hi"."""
    return f"\n\n{name}: {words}"


def ask_for(name: str) -> str:
    """Return the end of a document that asks for a turn: "\\n\\nCritique:"."""
    return f"\n\n{name}:"


def conversation(messages: Sequence[Message]) -> str:
    """Return the turns of a conversation; a system message stands before them as plain text."""
    return "".join(
        message.content if message.role == "system" else turn(_NAMES[message.role], message.content)
        for message in messages
    )
