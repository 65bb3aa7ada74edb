"""Look after a ledger: count, check, make it small again, take over what another one knows, forget."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from solon.errors import BadInput
from solon.ledger import Ledger, Merged, Statistics, Verified

__all__ = ["compact_ledger", "forget_calls", "ledger_statistics", "merge_ledgers", "verify_ledger"]


async def ledger_statistics(path: Path) -> Statistics:
    """Return what is in a ledger."""
    ledger = _there(path)
    try:
        return ledger.statistics()
    finally:
        await ledger.close()


async def verify_ledger(path: Path, *, drop: bool = False) -> Verified:
    """Read every entry and check it; with `drop` the damaged ones are removed, so that they are asked again."""
    ledger = _there(path)
    try:
        return ledger.verify(drop=drop)
    finally:
        await ledger.close()


async def compact_ledger(path: Path) -> tuple[int, int]:
    """Write a ledger anew without what no call needs; return its bytes before and after."""
    ledger = _there(path)
    try:
        return ledger.compact()
    finally:
        await ledger.close()


async def merge_ledgers(into: Path, other: Path) -> Merged:
    """Take over what `other` knows into the ledger at `into`, which is made if it is not there."""
    if not other.is_file():
        raise BadInput(f"{other}: no such ledger; give the path of a ledger.db")
    ledger = Ledger.open(into)
    try:
        return ledger.merge(other)
    finally:
        await ledger.close()


async def forget_calls(path: Path, *, model: str | None, before: str | None, text: str | None) -> int:
    """Remove the calls that match every condition given; `before` is a day such as 2026-01-31, in UTC."""
    if model is None and before is None and text is None:
        raise BadInput("nothing to forget: give --model, --before or --text")
    if "" in (model, text):
        raise BadInput("an empty --model or --text would match any call; write what to forget")
    try:
        day = None if before is None else datetime.fromisoformat(before)
        moment = None if day is None else (day if day.tzinfo else day.replace(tzinfo=UTC)).timestamp()
    except ValueError as problem:
        raise BadInput(f"--before {before!r} is no day; write it as 2026-01-31") from problem
    ledger = _there(path)
    try:
        return ledger.forget(model=model, before=moment, text=text)
    finally:
        await ledger.close()


def _there(path: Path) -> Ledger:
    """Open a ledger that is to be there already."""
    if not path.is_file():
        raise BadInput(f"{path}: no ledger there; give its path")
    return Ledger.open(path)
