"""What a run's rows cost, by role, step, principle and model; what was paid for them, and what the ledger saved.

Two accounts are told apart. *Used* is what all calls of the finished rows took, whoever paid for them. *Paid* is what
this run paid, from its purse: to the billionth of a dollar at the prices of then, with calls of rows that are not
finished yet. What rows used and this run did not pay came from the ledger, and is *saved*.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from solon.budget import left_told, limit_told
from solon.calls import Usage
from solon.errors import StorageError
from solon.pipelines.run import RunFolder
from solon.prices import PriceMeter
from solon.rows import Pair, SetAside
from solon.spend import DOLLAR, Spend
from solon.workshop import Workshop

__all__ = ["Cost", "Costs", "cost_of"]


@dataclass
class Cost:
    """Calls and what they took.

    calls, usage, nano: of all of them; nano in billionths of a dollar, None where a price is unknown
    paid:  of them, what this run paid itself
    """

    calls: int = 0
    usage: Usage = Usage()
    nano: int | None = 0
    paid: Spend = Spend()

    def add(self, usage: Usage, meter: PriceMeter, *, own: bool) -> None:
        spend = meter.paid(usage)
        self.calls += 1
        self.usage += usage
        self.nano = None if self.nano is None or meter.price is None else self.nano + spend.nano
        if own:
            self.paid += spend

    def take_in(self, other: Cost) -> None:
        self.calls += other.calls
        self.usage += other.usage
        self.nano = None if self.nano is None or other.nano is None else self.nano + other.nano
        self.paid += other.paid

    @property
    def dollars(self) -> float | None:
        return None if self.nano is None else self.nano / DOLLAR

    def figures(self) -> dict[str, Any]:
        """Return every figure, ready for JSON."""
        return {
            "calls": self.calls,
            "tokens": {name: getattr(self.usage, name) for name in ("input", "cached", "output", "thinking")},
            "dollars": self.dollars,
            "paid_calls": self.paid.calls,
            "paid_dollars": None if self.nano is None else self.paid.dollars,
        }


@dataclass
class Costs:
    """What `solon cost` knows of a run.

    whole:  all calls of the finished rows
    steps, roles, principles, models: the same, by each of these; "" for calls that speak no principle
    forgotten: calls of finished rows that the ledger does not know any more
    rows:   finished ones, of `planned`
    spent, reserved, lost: what the run paid, has in flight, and may have been billed for in vain; over all walks
    budget, left: the recipe's, in its own words; "" without one
    priced: who says each model's price, in words; "" where it is unknown
    """

    folder: Path
    whole: Cost = field(default_factory=Cost)
    steps: dict[str, Cost] = field(default_factory=dict)
    roles: dict[str, Cost] = field(default_factory=dict)
    principles: dict[str, Cost] = field(default_factory=dict)
    models: dict[str, Cost] = field(default_factory=dict)
    forgotten: int = 0
    rows: int = 0
    planned: int = 0
    spent: Spend = Spend()
    reserved: Spend = Spend()
    lost: Spend = Spend()
    budget: str = ""
    left: str = ""
    priced: dict[str, str] = field(default_factory=dict)
    known: bool = True

    @property
    def saved(self) -> Spend:
        """Return what the rows used and this run did not pay."""
        paid, usage = self.whole.paid, self.whole.usage
        used = Spend(self.whole.calls, usage.input + usage.output, self.whole.nano or 0)
        return used - paid

    @property
    def unfinished(self) -> Spend:
        """Return what this run paid for calls of rows that are not finished, or that were asked anew since."""
        rest = self.spent - self.whole.paid
        return Spend(max(rest.calls, 0), max(rest.tokens, 0), max(rest.nano, 0))

    def figures(self) -> dict[str, Any]:
        """Return every figure, ready for JSON; dollars are null where a price is unknown."""

        def spend(one: Spend) -> dict[str, Any]:
            dollars = one.dollars if self.known else None
            return {"calls": one.calls, "tokens": one.tokens, "dollars": dollars}

        def table(name: str, costs: dict[str, Cost]) -> list[dict[str, Any]]:
            return [{name: key or None, **cost.figures()} for key, cost in costs.items()]

        return {
            "folder": str(self.folder),
            "rows": self.rows,
            "planned": self.planned,
            "used": self.whole.figures(),
            "paid": spend(self.spent),
            "saved": spend(self.saved),
            "unfinished": spend(self.unfinished),
            "in_flight": spend(self.reserved),
            "lost": spend(self.lost),
            "forgotten": self.forgotten,
            "budget": self.budget or None,
            "left": self.left or None,
            "steps": table("step", self.steps),
            "roles": table("role", self.roles),
            "principles": table("principle", self.principles),
            "models": table("model", self.models),
            "priced": self.priced,
        }


async def cost_of(run: str | Path) -> Costs:
    """Return what a run's rows cost, one row after the other from the disk; asks nobody.

    Prices are those of the run's own copy of its recipe, with the file that its `prices:` names beside the recipe that
    it was made from. Raises StorageError where the run or its ledger cannot be read.
    """
    folder = RunFolder.open(Path(run))
    name = folder.path.resolve().name
    if not folder.ledger.is_file():
        raise StorageError(f"{folder.ledger}: the ledger is not there; tokens and prices are told where it is")
    base = (folder.path / folder.facts.get("file", "recipe.yaml")).resolve().parent
    recipe = folder.recipe.model_copy(update={"ledger": str(folder.ledger)})
    story = recipe.story.story(folder.constitution.constitution, recipe.judging)
    async with Workshop(recipe, base, offline=True) as shop:
        roles = recipe.roles()
        meters = {role: shop.meter(role) for role in roles}
        names = {role: folder.facts["cast"].get(role, {}).get("name") or shop.spec(role).use for role in roles}
        costs = Costs(folder.path.resolve(), known=all(meter.price is not None for meter in meters.values()))
        for role in roles:
            priced = shop.prices.priced(shop.spec(role))
            source = f", read {priced.read}" if priced and priced.read else ""
            costs.priced[names[role]] = f"{priced.by}{source}" if priced else ""
        with folder.store(read_only=True) as store:
            costs.rows, costs.planned = store.finished, store.planned
            cells: dict[tuple[str, str, str], Cost] = {}
            for step, role, principle, key in _calls(store.outcomes(), story.goes_by):
                took = shop.ledger.took(key)
                if took is None:
                    costs.forgotten += 1
                    continue
                cell = cells.setdefault((step, role, principle), Cost())
                cell.add(took[0], meters.get(role) or PriceMeter(None), own=took[1] == name)
        for (step, role, principle), cell in cells.items():
            costs.whole.take_in(cell)
            model = names.get(role, role)
            kinds = (costs.steps, step), (costs.roles, role), (costs.principles, principle), (costs.models, model)
            for table, kind in kinds:
                table.setdefault(kind, Cost()).take_in(cell)
        account = shop.ledger.account(name)
        costs.spent, costs.reserved, costs.lost = account.spent, account.reserved, account.lost
        if recipe.budget is not None:
            costs.budget, costs.left = limit_told(shop.limit), left_told(shop.limit, account.total)
    return costs


def _calls(outcomes: Iterable[Pair | SetAside], goes_by: Any) -> Iterator[tuple[str, str, str, str]]:
    """Yield (step, role, principle, key) of each call of the rows; one that a row asked twice once."""
    dice: dict[str, str | None] = {}
    for outcome in outcomes:
        drawn = {draw.step: draw.principle for draw in outcome.row.draws}
        seen: set[str] = set()
        for asked in outcome.asked:
            if asked.key in seen:
                continue
            seen.add(asked.key)
            if asked.step not in dice:
                dice[asked.step] = goes_by(asked.step)
            die = dice[asked.step]
            yield asked.step, asked.role, drawn.get(die, "") if die else "", asked.key
