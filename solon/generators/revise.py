"""Rewrite an answer in the light of its critique, and take off what models say before they do."""

from __future__ import annotations

import re
from collections.abc import Sequence

from solon.calls import Message
from solon.cast import Player, Said
from solon.generators.dialogue import Round, Shot, document, turns
from solon.markup import STOPS

__all__ = ["revise", "strip_preamble"]


async def revise(
    player: Player,
    prompt: Sequence[Message],
    response: str,
    asked: Round,
    *,
    shots: Sequence[Shot] = (),
    step: str,
) -> Said:
    """Return the revision as the model wrote it; `asked` holds the critique and the wording for the reviser."""
    if player.form == "text":
        return await player([Message("text", document(prompt, response, asked, shots))], step=step, stop=STOPS)
    return await player(turns(prompt, response, asked, shots), step=step)


def strip_preamble(text: str) -> tuple[str, bool]:
    """Return `text` without a leading sentence about the revision itself, and whether there was one.

    "Sure, here is a revised response:\\n\\nI can't help with that." becomes "I can't help with that.". What is taken
    off is one first line that ends in a colon and presents a rewritten answer, or a bare label ("Revised
    response: ..."), and then quotation marks around all the rest. "Here are three ideas:" presents the answer's
    own subject, and stays. What is left is never empty: such a text stays as it is.
    """
    match = _PREAMBLE.match(text) or _LABEL.match(text)
    rest = text[match.end() :].strip() if match else ""
    for opening, closing in ('""', "“”"):
        inner = rest[1:-1]
        if rest[:1] == opening and rest[-1:] == closing and opening not in inner and closing not in inner:
            rest = inner.strip()
    return (rest, True) if rest else (text, False)


_PREAMBLE = re.compile(
    r"""[\s*_#>]*
        (?=(?:sure|certainly|of\ course|absolutely|okay|ok|yes|great|thank|understood|sorry|i\ apologi[sz]e|
           here['’]?s|here\ is|below\ is|this\ is|the\ following|my|a|an|the|in|i['’]ve|i\ have|i|let\ me|to)\b)
        (?=[^\n]*\b(?:revis(?:ed|ion)|rewrit(?:e|ten)|rewording|reworded|rephrased|improved|amended|updated|modified|
           edited|corrected|alternative|(?:here(?:['’]s|\ is)\ (?:my|a|an|the|one)(?:\ (?:new|better))?))\b)
        (?=[^\n]*\b(?:response|version|answer|reply|revision|rewrite|rewording)\b)
        [^\n:]{0,240}:[*_]*[ \t]*(?:\n|$)""",
    re.IGNORECASE | re.VERBOSE,
)
_LABEL = re.compile(
    r"[\s*_#>]*(?:(?:the\s+|my\s+)?(?:revised|rewritten|improved|amended)\s+(?:assistant\s+)?"
    r"(?:response|answer|version|reply)|revision)\s*[*_]*:[*_]*\s*(?=\S)",
    re.IGNORECASE,
)
