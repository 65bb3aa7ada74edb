"""One row's walk, from the run folder and the ledger, with no model behind it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import indent

from solon import yamls
from solon.complaints import short
from solon.constitution import Case, Turn
from solon.errors import BadInput, StorageError
from solon.ledger import Entry, Ledger
from solon.pipelines.run import RunFolder
from solon.rows import Pair, Row, SetAside

__all__ = ["Shown", "as_case", "show_row"]


NO_LEDGER = "the ledger is not there; calls are shown where it is, or once it is put back"


@dataclass(frozen=True)
class Shown:
    """One row's walk.

    outcome: what became of it, None while it is unfinished
    calls:   (step, role, what the ledger remembers of the call or None)
    problem: why the ledger could not be read, or ""
    """

    row: Row
    outcome: Pair | SetAside | None
    calls: list[tuple[str, str, Entry | None]]
    folder: RunFolder
    problem: str = ""


async def show_row(run: str | Path, wanted: str) -> Shown:
    """Return the walk of one row, from the run folder and the ledger, with no model behind it.

    wanted: the row's index in the plan, or the beginning of its id (of digits alone: at least 8 of them)
    """
    folder = RunFolder.open(Path(run))
    with folder.store(read_only=True) as store:
        row = store.row(int(wanted) if wanted.isdecimal() and len(wanted) < 8 else wanted)
        outcome = store.outcome(row)
    shown = Shown(row, outcome, [], folder)
    if outcome is None:
        return shown
    unknown: list[tuple[str, str, Entry | None]] = [(asked.step, asked.role, None) for asked in outcome.asked]
    if not folder.ledger.is_file():
        return replace(shown, calls=unknown, problem=f"{folder.ledger}: {NO_LEDGER}")
    try:
        ledger = Ledger.open(folder.ledger)
    except StorageError as problem:
        return replace(shown, calls=unknown, problem=str(problem))
    try:
        return replace(shown, calls=[(asked.step, asked.role, ledger.entry(asked.key)) for asked in outcome.asked])
    finally:
        await ledger.close()


def as_case(shown: Shown) -> str:
    """Return a row's pair as a case in YAML, to be pasted under the principle that it shows.

    Raises BadInput where the row has no pair.
    """
    row, outcome = shown.row, shown.outcome
    if not isinstance(outcome, Pair):
        why = f"was set aside ({outcome.reason})" if outcome else "is not finished"
        raise BadInput(f"row {row.index} of {shown.folder.path} {why}: it has no better and worse answer; take another")
    turns = tuple(Turn.model_validate({"role": each.role, "content": each.content}) for each in row.prompt.messages)
    case = Case(prompt=turns, better=outcome.chosen, worse=outcome.rejected)
    judged = f"by {outcome.principle}, P(better) {outcome.p_chosen:.3f} says {outcome.judge}"
    head = f"# row {row.index} of {shown.folder.path}, judged {short(judged, 200)}"
    return indent(f"{head}\n{yamls.dump({'cases': [case.model_dump(mode='json')]})}", "    ")
