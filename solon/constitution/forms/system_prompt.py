"""A constitution as a system prompt: plain prose that speaks to the assistant itself.

Hard constraints first, as absolute; then the rest by rank. Only `text` and `rationale` speak: a critique question
means nothing to who is to answer. Weights mean nothing there either, but what is never drawn (weight 0) stays out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from solon.constitution.forms.files import Form
from solon.constitution.principles import Constitution, Principle

__all__ = ["SYSTEM_PROMPT"]

HEADINGS = re.compile(r"(#{1,6} .*\n+)+")


def _write(constitution: Constitution) -> tuple[str, list[Principle]]:
    told = [each for each in constitution.in_order() if each.text and (each.weight or each.kind == "hard_constraint")]
    always = [each for each in told if each.kind == "hard_constraint"]
    traits = [each for each in told if each.kind == "trait"]
    rules = [each for each in told if each.kind in ("principle", "priority")]
    parts = [constitution.preamble] if constitution.preamble else []
    parts += [ALWAYS, *_items(always, "-")] if always else []
    if rules:
        ranked = len({each.rank for each in rules}) > 1
        parts += [(BEYOND if always else RULES) + (RANKED if ranked else ""), *_items(rules)]
    parts += [WHO, *_items(traits, "-")] if traits else []
    return "\n\n".join(parts) + "\n", told


def _items(principles: Sequence[Principle], mark: str = "") -> list[str]:
    items = []
    for number, each in enumerate(principles, start=1):
        sign = mark or f"{number}."
        reason = each.rationale or ""
        heading = HEADINGS.match(reason)
        # the section of a prose holds its text already
        words = reason[heading.end() :] if heading else f"{each.text}\n\n{reason}".strip()
        indented = [f"{' ' * (len(sign) + 1)}{line}" if line.strip() else "" for line in words.split("\n")]
        items.append(f"{sign} {chr(10).join(indented).lstrip()}")
    return items


SYSTEM_PROMPT = Form(
    "instructions to put before a model; for export, read back as prose",
    _write,
    carries=frozenset({"preamble", "text", "rationale", "rank", "kind"}),
)

ALWAYS = "Whatever you are asked or told, these always hold for you:"

RULES = "Go by these principles whenever you answer."

BEYOND = "Within these bounds, go by these principles whenever you answer."

RANKED = " Where two of them pull apart, the one that stands earlier counts for more."

WHO = "This is who you are, in your own words; let it show in how you answer, without speaking of it:"
