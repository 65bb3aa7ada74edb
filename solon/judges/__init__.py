"""Judges: how two answers become a label."""

from __future__ import annotations

from solon.judges.pairwise import TEMPLATES, Pairwise
from solon.judges.verdict import Verdict, aggregate, from_logprobs, last_verdict, structured_verdict

__all__ = ["TEMPLATES", "Pairwise", "Verdict", "aggregate", "from_logprobs", "last_verdict", "structured_verdict"]
