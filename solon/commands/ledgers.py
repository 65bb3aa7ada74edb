"""Look after a ledger: take over what another one knows, forget what should be forgotten."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from solon.errors import BadInput
from solon.ledger import Ledger, Merged

__all__ = ["forget_calls", "merge_ledgers"]


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
    if not path.is_file():
        raise BadInput(f"{path}: no ledger there; give its path")
    try:
        day = None if before is None else datetime.fromisoformat(before)
        moment = None if day is None else (day if day.tzinfo else day.replace(tzinfo=UTC)).timestamp()
    except ValueError as problem:
        raise BadInput(f"--before {before!r} is no day; write it as 2026-01-31") from problem
    ledger = Ledger.open(path)
    try:
        return ledger.forget(model=model, before=moment, text=text)
    finally:
        await ledger.close()
