"""Which beginning of a question is worth a place in Anthropic's cache.

The provider keeps what stands before a mark (`cache_control`) for five minutes, and longer where it is used again. To
write it costs 1.25 times the input, to read it 0.1 times, so a beginning that is used once must not be marked; and it
can be read from the moment when the answer to whoever wrote it has begun, so of many calls at once only one is to
write. Hence: a beginning that two questions have had within the last minutes is marked in the next; until that one is
answered the others go without, and after it all are marked. Where a marked question then comes back without tokens
read from the cache, the beginning is too short for this model, and is marked no more.

The least length is 1,024 tokens, for some models 2,048 or 4,096; a mark on less does nothing and costs nothing. Fewer
than 1,024 characters are never looked at. Source: platform.claude.com/docs/en/build-with-claude/prompt-caching, as
told by docs.orq.ai/docs/proxy/prompt-caching.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

__all__ = ["Prefixes"]

LEAST_CHARACTERS = 1024
KEPT_SECONDS = 280.0
"""A little less than the five minutes of the provider."""
MOST_PREFIXES = 4096
OFTEN = 2
MARK = {"type": "ephemeral"}


class Prefix:
    """What is known of one beginning: questions that had it, when last, and whether it lies in the cache."""

    __slots__ = ("cached", "last", "questions", "useless", "writing")

    def __init__(self) -> None:
        self.questions = 0
        self.last = 0.0
        self.writing = self.cached = self.useless = False


class Prefixes:
    """The beginnings of one model's questions: everything before the last turn, and shorter ones."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[int, Prefix] = OrderedDict()

    def mark(self, body: dict[str, Any]) -> Prefix | None:
        """Mark the longest beginning of `body` that pays, and return it for `answered` or `failed`; else None."""
        system = body.get("system")
        turns = body["messages"]
        found: Prefix | None = None
        place, length, key = 0, 0, 0
        if isinstance(system, str):
            length, key = len(system), hash(system)
            found = self._seen(key) if length >= LEAST_CHARACTERS else None
        for number, turn in enumerate(turns[:-1], 1):
            length += len(turn["content"])
            key = hash((key, turn["role"], turn["content"]))
            if length >= LEAST_CHARACTERS and (longer := self._seen(key)):
                found, place = longer, number
        if found is None or "cache_control" in body:
            return None
        if not found.cached:
            found.writing = True
        if place:
            turn = turns[place - 1]
            content = [{"type": "text", "text": turn["content"], "cache_control": MARK}]
            turns[place - 1] = {"role": turn["role"], "content": content}
        else:
            body["system"] = [{"type": "text", "text": system, "cache_control": MARK}]
        return found

    def answered(self, prefix: Prefix, read: int) -> None:
        """Note that a question with this beginning marked was answered, with so many tokens read from the cache."""
        if prefix.cached and not read:
            prefix.useless = True
        prefix.cached, prefix.writing = True, False

    def failed(self, prefix: Prefix) -> None:
        """Note that nobody knows whether a beginning was written."""
        prefix.writing = False

    def _seen(self, key: int) -> Prefix | None:
        """Count a question with this beginning; return it where a mark on it pays."""
        now = self._clock()
        prefix = self._known.get(key)
        if prefix is None or now - prefix.last > KEPT_SECONDS:
            prefix = self._known[key] = Prefix()
        self._known.move_to_end(key)
        if len(self._known) > MOST_PREFIXES:
            self._known.popitem(last=False)
        prefix.last = now
        prefix.questions += 1
        pays = prefix.questions > OFTEN and not prefix.writing and not prefix.useless
        return prefix if pays else None
