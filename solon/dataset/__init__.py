"""Dataset: prompts in, rows and their outcomes on disk, data files and their card out.

pyarrow and `datasets` are imported by the functions that need them, not with this package.
"""

from __future__ import annotations

from solon.dataset.card import CardFacts, CardModel, Spend
from solon.dataset.export import Exported, ExportSpec, export
from solon.dataset.prompts import LONGEST_PROMPT, PromptsSpec, digest_of, read_prompts
from solon.dataset.quality import Quality
from solon.dataset.store import RowStore
from solon.dataset.views import VIEWS

__all__ = [
    "LONGEST_PROMPT",
    "VIEWS",
    "CardFacts",
    "CardModel",
    "ExportSpec",
    "Exported",
    "PromptsSpec",
    "Quality",
    "RowStore",
    "Spend",
    "digest_of",
    "export",
    "read_prompts",
]
