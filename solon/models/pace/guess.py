"""What a call will take in tokens, before it is asked, for limits that are told in tokens.

A question's length counts a token a four characters, corrected by what questions of this server have measured; its
answer is as long as answers were on average, among calls that may have as many tokens (a judge's letter and a
responder's page differ in that). Before the first answer it is taken at half its most.
"""

from __future__ import annotations

from solon.calls import Call, Usage

__all__ = ["Cost", "Guess"]

CHARS = 4.0
MEMORY = 50
"""Answers that a mean looks back on, about."""

KINDS = 64
"""Most values of max_tokens that are told apart."""

Cost = tuple[float, float, float, float]
"""Requests, tokens in all, tokens of question that come from no cache, and tokens of answer."""


class Guess:
    """Learns what calls take. One for each server."""

    def __init__(self) -> None:
        self._chars = CHARS * 100
        self._asked = self._fresh = 100.0
        self._answers: dict[int, tuple[int, float]] = {}

    def of(self, call: Call) -> Cost:
        """Return what a call will probably take."""
        chars = length(call)
        most = call.sampling.max_tokens
        _, answer = self._answers.get(most, (0, most / 2))
        return 1.0, chars * self._asked / self._chars + answer, chars * self._fresh / self._chars, answer

    def learn(self, call: Call, usage: Usage) -> Cost:
        """Return what it took."""
        asked, fresh = usage.input, usage.input - usage.cached
        keep = 1 - 1 / MEMORY
        self._chars = keep * self._chars + length(call)
        self._asked = keep * self._asked + asked
        self._fresh = keep * self._fresh + fresh
        most = call.sampling.max_tokens
        count, mean = self._answers.get(most, (0, 0.0))
        if count or len(self._answers) < KINDS:
            count = min(count + 1, MEMORY)
            self._answers[most] = (count, mean + (usage.output - mean) / count)
        return 1.0, float(asked + usage.output), float(fresh), float(usage.output)


def length(call: Call) -> int:
    """Return the characters of a question."""
    return sum(len(message.content) for message in call.messages)
