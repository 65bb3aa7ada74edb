"""Reasoning that a model writes into its answer, told apart from the answer.

    <think>First ...</think>Yes.      ->  ("First ...", "Yes.")
    First ...</think>\\n\\nYes.          ->  the same: some chat templates open the part for the model
    <think>First ...                  ->  ("First ...", ""): cut before the answer began

Only what stands at the very start counts; an answer that talks about `<think>` further on stays as it is.
"""

from __future__ import annotations

import re

__all__ = ["split_thinking"]

_OPEN = re.compile(r"\s*<think>")
_LONE_CLOSE = re.compile(r"\s*</think>[ \t]*(?=\n|\Z)")


def split_thinking(text: str) -> tuple[str, str]:
    """Return (thinking, answer) of `text`; the answer keeps its white space where there was no thinking."""
    parts: list[str] = []
    rest = text
    while opened := _OPEN.match(rest):
        thought, closed, rest = rest[opened.end() :].partition("</think>")
        parts.append(thought.strip())
        if not closed:
            break
        rest = rest.lstrip()
    if not parts and "</think>" in text and "<think>" not in text and (lone := _LONE_CLOSE.search(text)):
        parts, rest = [text[: lone.start()].strip()], text[lone.end() :].lstrip()
    return "\n\n".join(part for part in parts if part), rest
