"""Criticise an answer by a principle (Bai et al. 2022, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

from solon.calls import Message
from solon.cast import Player, Said
from solon.generators.dialogue import Round, Shot, document, turns
from solon.markup import STOPS

__all__ = ["critique"]


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
        return await player([Message("text", document(prompt, response, asked, shots))], step=step, stop=STOPS)
    return await player(turns(prompt, response, asked, shots), step=step)
