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
    """Return `text` without what a model says about the revision before it gives it, and whether there was such.

    "Sure, here is a revised response:\\n\\nI can't help with that." becomes "I can't help with that.". What is taken
    off, as often as it stands there: a first line that presents a rewritten answer and ends in a colon or a line
    break, a label ("Revised response: ...", "## Revised response"), a rule of dashes after them, and then quotation
    marks around all the rest. What presents the answer's own subject stays: "Here are three ideas:", "Here is a
    revised version of your essay:", "Here is a reply you could send:". What is left is a piece of `text`, and never
    empty: a text that is all preamble stays as it is.
    """
    rest = text
    while match := _preamble(rest):
        inner = _unquoted(_RULE.sub("", rest[match.end() :].strip()))
        if not inner:
            break
        rest = inner
    return rest, rest is not text


def _preamble(text: str) -> re.Match[str] | None:
    presented = _PRESENTED.match(text)
    if presented and not _OWN_SUBJECT.search(presented.group()):
        return presented
    return _LABEL.match(text) or _HEADING.match(text)


def _unquoted(text: str) -> str:
    """Return `text` without one pair of quotation marks around all of it."""
    inner = text[1:-1]
    around = text[:1] + text[-1:]
    return inner.strip() if around in ('""', "“”") and not any(mark in inner for mark in around) else text


# The rule, in four parts. `WITHIN` stays inside one sentence: what follows a full stop is the answer.
_WITHIN = r"(?:(?![.!?]\s)[^:\n])"
_REWRITTEN = r"(?:revised|rewritten|re-written|reworded|rephrased|improved|amended|updated|modified|edited|corrected)"
_MORE = r"more[ ][\w-]+(?:,?[ ](?:and[ ])?[\w-]+){0,3}?"
_QUALITY = rf"(?:{_REWRITTEN}|revamped|alternative|alternate|new|better|possible|safer|kinder|{_MORE})"
_NOUN = r"(?:response|version|answer|reply|revision|rewrite|rewriting|rewording)(?![^\W_])"
_IT = r"(?:(?:response|answer|reply)\b|(?:it|that)(?=[ ]?[:.!\n]))"
_OPENER = rf"""
    (?:sure(?:[ ]thing)?|certainly|of[ ]course|absolutely|okay|ok|yes|great|understood|alright|got[ ]it|no[ ]problem|
       as[ ]requested|you(?:['’]re|[ ]are)[ ](?:absolutely[ ]|quite[ ])?right|good[ ]point|
       (?:thank[ ]you|thanks|(?:i[ ]|my[ ])?apolog(?:i[sz]e|ies)|(?:i['’]m[ ]|i[ ]am[ ])?sorry)
       (?:[ ](?:for|about){_WITHIN}{{0,80}}?)?|
       (?:based[ ]on|in[ ]light[ ]of|given|considering|following|with|after)[ ]{_WITHIN}{{0,80}}?|
       (?:i['’]d[ ]be|i['’]m)?[ ]?happy[ ]to[ ](?:help|revise|rewrite){_WITHIN}{{0,60}}?)
    [ ]?[,.!;—–-]*\s+"""
_PRESENTED = re.compile(
    rf"""[\s*_#>]*(?:{_OPENER}){{0,2}}
    (?:
        (?:here(?:['’]s|[ ]is)|below[ ]is|this[ ]is|(?:the[ ])?following[ ]is)[ ]
            {_WITHIN}{{0,40}}?\b{_QUALITY}[ ]{_WITHIN}{{0,40}}?\b{_NOUN}
      | (?:here(?:['’]s|[ ]is)|below[ ]is)[ ](?:my|the|a|an|one)[ ](?:attempt[ ]at[ ](?:a|the)[ ])?
            (?:revision|rewrite|rewording|response)\b
      | i(?:['’]ve|[ ]have)?[ ](?:{_REWRITTEN}|rewrote)\b{_WITHIN}{{0,40}}?\b{_IT}
      | (?:let[ ]me|i['’]ll|i[ ]will|i['’]d[ ]like[ ]to)[ ](?:revise|rewrite|rephrase|reword)\b
            {_WITHIN}{{0,40}}?\b{_IT}
      | (?:my|the|a|an)[ ]{_QUALITY}[ ](?:assistant[ ])?{_NOUN}{_WITHIN}{{0,60}}?\b
            (?:is|be|reads|follows|below)\b
    )
    {_WITHIN}{{0,160}}?[*_]*(?:[ ]?:[*_]*\s*(?=\S)|[.!]?[*_]*[ \t]*\n)""",
    re.IGNORECASE | re.VERBOSE,
)
_OWN_SUBJECT = re.compile(
    rf"""\b{_NOUN}[ ](?:
        (?:of[ ]|to[ ](?:your|the|this|that|these|those|an?|his|her|their|its)[ ])
            (?!(?:[\w'’-]+[ ]){{0,3}}(?:response|answer|reply|message|request|question|prompt|human|user|assistant|
               query|conversation|inquiry|critique|it)\b)
      | for[ ]your\b)
    | \b(?:you|he|she|they|we)[ ](?:can|could|might|may|should)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_LABEL = re.compile(
    rf"""[\s*_#>]*(?:(?:the|my|a)[ ])?(?:final[ ])?
    (?:{_REWRITTEN}[ ](?:assistant(?:['’]s)?[ ])?{_NOUN}|revision|rewrite|assistant(?:['’]s[ ]response|[ ]response)?)
    [ ]?(?:\([^()\n]{{0,60}}\))?[*_]*[ ]?:[*_]*\s*(?=\S)""",
    re.IGNORECASE | re.VERBOSE,
)
_HEADING = re.compile(
    rf"\s*(?:#+ *[*_]*|\*\*|__)(?:(?:the|my) )?(?:{_REWRITTEN} (?:assistant )?{_NOUN}|revision)[*_]*[ \t]*\n",
    re.IGNORECASE,
)
_RULE = re.compile(r"\A(?:[-*_]{3,}[ \t]*\n\s*)+")

RULES = tuple(rule.pattern for rule in (_PRESENTED, _OWN_SUBJECT, _LABEL, _HEADING, _RULE))
"""What `strip_preamble` goes by: a changed rule makes other data, so it is part of every plan's name."""
