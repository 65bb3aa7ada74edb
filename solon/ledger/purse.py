"""What each run has spent, put by and perhaps lost: a purse a run, kept in the ledger's own transactions.

    spent      answered calls, at what they cost
    reserved   calls in flight, each at the most that it can cost
    lost       attempts that may have been billed although nobody heard their answer, at the most they can have cost

A limit holds where spent + reserved + lost stay within it, whichever processes walk, are killed, and start again.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from solon.spend import DOLLAR, Limit, Spend

__all__ = ["NOTHING", "Account", "Book", "account_in", "over"]

NOTHING = Spend()


@dataclass(frozen=True, slots=True)
class Account:
    """A run's purse: see the head of this file."""

    spent: Spend = NOTHING
    reserved: Spend = NOTHING
    lost: Spend = NOTHING

    @property
    def total(self) -> Spend:
        return self.spent + self.reserved + self.lost


def account_in(db: sqlite3.Connection, run: int) -> Account:
    """Return the purse of a run, by the number of its name."""
    row = db.execute("SELECT * FROM purses WHERE run = ?", (run,)).fetchone()
    return Account() if row is None else Account(Spend(*row[1:4]), Spend(*row[4:7]), Spend(*row[7:10]))


class Book:
    """The purses that one transaction changes: each is read once, and written once before the commit."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._open: dict[int, Account] = {}

    def of(self, run: int) -> Account:
        account = self._open.get(run)
        if account is None:
            account = self._open[run] = account_in(self._db, run)
        return account

    def enter(self, run: int, *, spent: Spend = NOTHING, reserved: Spend = NOTHING, lost: Spend = NOTHING) -> None:
        """Add to a run's purse; what goes from one part of it into another is taken off there."""
        old = self.of(run)
        self._open[run] = Account(
            old.spent + spent if spent is not NOTHING else old.spent,
            old.reserved + reserved if reserved is not NOTHING else old.reserved,
            old.lost + lost if lost is not NOTHING else old.lost,
        )

    def write(self) -> None:
        """Write all changed purses, inside the transaction; what comes after reads them again."""
        for run, account in self._open.items():
            parts = (account.spent, account.reserved, account.lost)
            values = [value for part in parts for value in (part.calls, part.tokens, part.nano)]
            self._db.execute("INSERT OR REPLACE INTO purses VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (run, *values))
        self._open.clear()

    def forget(self) -> None:
        """Drop what was not written: the transaction was taken back."""
        self._open.clear()


def over(limit: Limit, account: Account, worst: Spend) -> str:
    """Return why a call that may cost `worst` is not asked: the budget, what is gone, the remedy."""
    lost = f", {_said(limit, account.lost)} may have been billed in vain" if account.lost != NOTHING else ""
    return (
        f"the budget of {_said(limit, Spend(limit.calls or 0, limit.tokens or 0, limit.nano or 0))} is used up: "
        f"{_said(limit, account.spent)} spent{lost}, and the next call may cost {_said(limit, worst)}; raise `budget` "
        "in the recipe and start the same command again, everything is kept"
    )


def _said(limit: Limit, spend: Spend) -> str:
    """Return `spend` in the measures that the limit is stated in."""
    said = []
    if limit.nano is not None:
        digits = 2 if spend.nano % (DOLLAR // 100) == 0 else 4
        said.append(f"{spend.nano / DOLLAR:,.{digits}f} USD")
    if limit.tokens is not None:
        said.append(f"{spend.tokens:,} tokens")
    if limit.calls is not None:
        said.append(f"{spend.calls:,} {'call' if spend.calls == 1 else 'calls'}")
    return ", ".join(said) or "nothing"
