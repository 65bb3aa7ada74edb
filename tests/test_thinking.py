"""Reasoning in an answer is told apart from the answer."""

from __future__ import annotations

import pytest

from solon.models.thinking import split_thinking


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("Yes.", "", "Yes."),
        ("  Yes.\n", "", "  Yes.\n"),
        ("<think>First.</think>Yes.", "First.", "Yes."),
        ("\n<think>\nFirst.\n</think>\n\nYes.\n", "First.", "Yes.\n"),
        ("<think>One.</think>\n<think>Two.</think> Yes.", "One.\n\nTwo.", "Yes."),
        ("<think></think>\n\nYes.", "", "Yes."),
        ("<think>First, cut be", "First, cut be", ""),
        ("First.\n</think>\n\nYes.", "First.", "Yes."),
        ("First.</think>", "First.", ""),
        ("Write <think> and </think>\nround it.", "", "Write <think> and </think>\nround it."),
        ("The tag </think> closes it.", "", "The tag </think> closes it."),
        ("", "", ""),
    ],
)
def test_thinking_stands_at_the_start_or_nowhere(text: str, thinking: str, answer: str) -> None:
    assert split_thinking(text) == (thinking, answer)
