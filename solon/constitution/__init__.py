"""Constitutions: what an assistant is to go by, read from YAML, and who of it a row meets.

constitution = load("cai-2022")
principle = constitution.draw(seed=0, row=prompt.id, step="revise.1", roles=["critique", "revision"])
constitution.wording(principle, "critique")
"""

from __future__ import annotations

from solon.constitution.load import load, parse, shipped, shipped_text
from solon.constitution.principles import ROLES, Case, Constitution, Exemplar, Kind, Principle, Role, Turn

__all__ = [
    "ROLES",
    "Case",
    "Constitution",
    "Exemplar",
    "Kind",
    "Principle",
    "Role",
    "Turn",
    "load",
    "parse",
    "shipped",
    "shipped_text",
]
