"""Answer a prompt: the first step of both stories."""

from __future__ import annotations

from collections.abc import Sequence

from solon.calls import Message
from solon.cast import Player, Said
from solon.markup import STOPS, ask_for, conversation

__all__ = ["respond"]


async def respond(player: Player, prompt: Sequence[Message], *, step: str, sample: int = 0) -> Said:
    """Return the player's answer to `prompt` (turns, the last one the user's).

    `sample` 1 is a second answer to the same prompt, drawn anew. Raises Aside where there is no usable answer.
    """
    if player.form == "text":
        document = conversation(prompt) + ask_for("Assistant")
        return await player([Message("text", document)], step=step, sample=sample, stop=STOPS)
    return await player(prompt, step=step, sample=sample)
