"""The ledger: every question once, and what each run spends. One SQLite file remembers each Reply by its Call's key."""

from __future__ import annotations

from solon.ledger.file import Entry
from solon.ledger.flight import Tally
from solon.ledger.ledger import Account, Door, Ledger, Merged, Statistics, Verified

__all__ = ["Account", "Door", "Entry", "Ledger", "Merged", "Statistics", "Tally", "Verified"]
