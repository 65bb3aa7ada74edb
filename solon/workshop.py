"""The workshop opens the ledger and the models once, and lends them to runs, plans and checks.

It is the only place that knows both a ledger and a provider: what walks a row sees a Cast, and a Cast cannot tell
a live model from memory.

    async with Workshop(recipe, base) as shop:
        cast = await shop.cast()
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Literal

from solon.budget import left_told, limit_told
from solon.calls import Ask, Call, Can, Message, Model, Reply, Sampling, Usage, options_text
from solon.cast import ROLES, Cast, Player
from solon.digests import tagged
from solon.errors import Aside, BadInput, Halt, OverBudget, RefusedParameter, StorageError
from solon.judges.pairwise import SCHEMA_LETTER
from solon.judges.verdict import structured_verdict
from solon.ledger import Account, Door, Ledger, Tally
from solon.models import open_model
from solon.models.batch import Desk, Desks
from solon.models.pace import Pace, Paces
from solon.models.spec import ModelSpec, Price
from solon.pipelines.recipe import AgainSpec, Recipe
from solon.pipelines.standing import Batches
from solon.pipelines.walk import Progress
from solon.prices import PriceMeter, PriceTable
from solon.spend import Limit

__all__ = ["MoneyFacts", "Workshop"]

Verdict = Literal["auto", "logprobs", "structured", "parsed"]


@dataclass(frozen=True)
class MoneyFacts:
    """Where the money of a walk stands, in dollars; None where a price is unknown.

    spent:      paid by this walk
    saved:      what the answers that it had from the ledger would have cost
    lost, reserved: attempts of the run that may have been billed in vain, and calls in flight, each at its most
    budget, left: the cap and what it leaves, in its own words; "" without one
    projection: what the walk will have cost at its end; None before it has ended a row
    """

    spent: float | None
    saved: float | None
    lost: float | None
    reserved: float | None
    budget: str
    left: str
    projection: float | None


class Workshop:
    """Ledger and models of one recipe. Use it as an async context manager.

    offline: nothing stands behind the ledger; what it does not know sets its row aside as "not_known"
    refresh: every call is asked anew once
    share:   how many processes walk this recipe together: each takes its share of what limits a server
    run:     the run folder's name, once there is one: who pays from then on
    """

    def __init__(
        self, recipe: Recipe, base: Path, *, offline: bool = False, refresh: bool = False, share: int = 1
    ) -> None:
        self.recipe = recipe
        self.share = share
        self.run = ""
        self.base = base
        self.offline = offline
        self.refresh = refresh
        self.ledger_path = recipe.ledger_path(base)
        self.limit = recipe.budget.limit if recipe.budget else Limit()
        self._models: dict[str, Model] = {}
        self._paces = Paces(share=1 / share)
        self._doors: dict[tuple[str, str], Door] = {}
        self._asks: dict[str, Ask] = {}
        self._first: dict[tuple[str, str], Tally] = {}  # what the doors saw before rows were walked again

    async def __aenter__(self) -> Workshop:
        self.ledger = Ledger.open(self.ledger_path)
        limit = None if self.limit == Limit() else self.limit
        self.desks = Desks(self.ledger, self.ledger_path, limit=limit, refresh=self.refresh)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, *, grace: float = 0.0) -> None:
        """Give everything back; calls in flight get `grace` seconds to be written down. May be called twice."""
        await self.desks.close()
        await self.ledger.close(grace=grace)
        for model in self._models.values():
            await model.close()
        self._models.clear()

    def spec(self, role: str) -> ModelSpec:
        """Return what the recipe says about the model of a role."""
        return self.recipe.role(role).model or self.recipe.model

    def model(self, role: str) -> Model:
        """Return the opened model of a role; roles with the same words in the recipe share one."""
        spec = self.spec(role)
        name = spec.model_dump_json()
        if name not in self._models:
            self._models[name] = open_model(self._share_of(spec), base=self.base, paces=self._paces)
        return self._models[name]

    def paces(self) -> list[Pace]:
        """Return what holds back the calls to each server that was opened so far."""
        return self._paces.all()

    def _share_of(self, spec: ModelSpec) -> ModelSpec:
        """Return `spec` with this process's part of what limits its server; whole numbers, at least 1."""
        limits = ("concurrency", "requests_per_minute", "tokens_per_minute")
        stated = {name: getattr(spec, name) for name in limits}
        part = {name: max(1, int(most / self.share)) for name, most in stated.items() if most}
        return spec.model_copy(update=part) if self.share > 1 else spec

    @cached_property
    def prices(self) -> PriceTable:
        """Return what models cost: the recipe's own file before the shipped table. Raises BadInput."""
        return PriceTable.open(self.recipe.prices_path(self.base))

    def price(self, role: str) -> Price | None:
        """Return dollars a million tokens, or None where nobody says. A model on this machine costs nothing."""
        return self.prices.price(self.spec(role))

    def meter(self, role: str) -> PriceMeter:
        """Return what a role's calls cost; those of batch jobs by their share of the price."""
        return PriceMeter(self.price(role), batch=bool(self.recipe.role(role).batch))

    def check_usable(self, *roles: str) -> None:
        """Raise Halt where a role's model cannot be asked: now, and not after the other roles were paid.

        roles: all that the recipe's story has, where none is named

        Raises BadInput where all of them are to run on a budget in money and a price is unknown: nobody could keep it;
        StorageError where no answer could be written down.
        """
        if self.ledger.unwritable:
            raise StorageError(self.ledger.unwritable)
        if not roles and (problem := self.unpriced()):
            raise BadInput(problem)
        for role in roles or self.recipe.roles():
            if problem := getattr(self.model(role), "unusable", ""):
                raise Halt(problem)

    def unpriced(self) -> str:
        """Return why a budget in money cannot be kept: a model whose price nobody says; "" where all is well."""
        priceless: dict[str, list[str]] = {}
        for role in self.recipe.roles() if self.limit.nano is not None else ():
            if self.price(role) is None:
                priceless.setdefault(self.spec(role).use, []).append(role)
        if not priceless:
            return ""
        named = ", ".join(f"{use} ({' and '.join(who)})" for use, who in priceless.items())
        return (
            f"budget: {limit_told(self.limit)}, and nobody says what {named} costs; write `price: {{input: ..., "
            "output: ...}` with the model (dollars a million tokens), or state the budget in tokens or calls"
        )

    async def cast(self) -> Cast:
        """Return the recipe's cast, its doors through the ledger. Asks the judge what it can do, once for ever.

        Raises Halt where the judge does not answer that, BadInput where nobody may ask it.
        """
        players = {role: self.player(role) for role in self.recipe.roles() if role != "judge"}
        players["judge"] = await self.judge()
        if "critic" in players and (structured := self.recipe.role("critic").structured):
            players["critic"] = replace(players["critic"], structured=await self._critic_keeps_schema(structured))
        # a story never asks a role that it does not have, so its model need not be there
        return Cast(*(players.get(role) or replace(players["responder"], role=role) for role in ROLES))

    async def judge(self) -> Player:
        """Return the judge alone, who knows what its model can do; raises as `cast` does."""
        return replace(self.player("judge"), can=await self._judge_can())

    async def dry_cast(self) -> Cast:
        """Return the same cast with nothing behind the ledger: it answers from memory or not at all."""
        cast = await self.cast()
        door = self.ledger.door(None)
        return Cast(*(replace(player, ask=door) for player in cast.players()))

    def player(self, role: str) -> Player:
        """Return the player of one role, who can do what the model says of itself."""
        spec, model = self.recipe.role(role), self.model(role)
        return Player(
            role=role,
            ask=self._asking(role),
            model=model.identity,
            name=model.name,
            form=model.form,
            can=model.can,
            sampling=self.recipe.sampling(role),
            system=spec.system,
            options=options_text(self.spec(role).options),
            again=max(spec.anew.values()),
            anew=spec.anew if isinstance(spec.again, AgainSpec) and not spec.again.is_a_number else None,
            cut=spec.cut or "aside",
        )

    def appetite(self) -> int:
        """Return how many rows at once keep the models busy: a quarter more than the calls that they take just now."""
        calls = sum(model.concurrency for model in self._models.values())
        return calls + calls // 4 + 8

    async def begin(self, run: str, stop: asyncio.Event) -> None:
        """Let `run` pay from now on, and wait for its batch jobs that are still open where its budget counts them."""
        self.run = run
        await self.desks.begin(run, alone=self.share == 1)
        if self.share == 1 and self.limit != Limit() and not self.offline and self._batching():
            # live calls would wait for room that only these jobs can give back
            await self.desks.finish(stop)

    async def collect(self, stop: asyncio.Event, progress: Progress) -> bool:
        """Let what is parked be answered by batch jobs; return whether anything may be walked on."""
        if self.offline or not self._batching():
            return False
        # what memory answers from here on was asked, or counted as known, before
        self._first = self._first or {name: replace(door.tally) for name, door in self._doors.items()}
        before = self._answered()
        try:
            await self.desks.settle(stop)
        except OverBudget as problem:
            progress.over_budget, progress.interrupted = str(problem), True
            return False
        finally:
            answered, usage = self._answered()
            progress.asked += answered - before[0]
            progress.usage += _less(usage, before[1])
        progress.aside.pop("parked", None)
        return True

    def batches(self, parked: int) -> Batches | None:
        """Return where the batch jobs stand, with so many rows waiting for them; None where no role has any."""
        facts = self.desks.facts
        if not facts and not parked:
            return None
        return Batches(
            parked=parked,
            in_jobs=sum(one.in_jobs for one in facts),
            jobs=sum(len(one.jobs) for one in facts),
            next_poll=min((one.next_look for one in facts), default=None),
        )

    def _answered(self) -> tuple[int, Usage]:
        """Return how many calls batch jobs answered in this process, and their tokens."""
        desks = [desk for _, desk in self.desks.all()]
        return sum(desk.answered for desk in desks), sum((desk.usage for desk in desks), Usage())

    def _batching(self) -> list[Desk]:
        """Return the desks of all roles whose calls wait for batch jobs."""
        return [self._desk(role) for role in self.recipe.roles() if self.recipe.role(role).batch]

    def _desk(self, role: str) -> Desk:
        return self.desks.desk(self._door_name(role), self.model(role), self.meter(role))

    def settle(self, progress: Progress) -> None:
        """Count what the doors saw: calls in flight at an interrupt are paid for though their rows were dropped."""
        tally = self.tally
        progress.known, progress.asked, progress.failed = tally.known + tally.shared, tally.asked, tally.failed
        progress.usage = tally.asked_usage

    def _asking(self, role: str) -> Ask:
        """Return the way to a role's model, through the door of whichever run pays at the moment of asking."""
        name = self._door_name(role)

        def ask(call: Call) -> Awaitable[Reply]:
            door = self._doors.get((name, self.run))
            return (door or self._opened(name, role))(call)

        return self._asks.setdefault(name, ask)

    def _opened(self, name: str, role: str) -> Door:
        """Return a new door to a role's model. A run pays from its purse, as far as the budget goes."""
        if self.run and self.recipe.role(role).batch and not self.offline:
            # parking costs nothing: the desk keeps the purse
            door = self.ledger.door(self._desk(role), refresh=self.refresh, run=self.run)
        else:
            model = None if self.offline else self.model(role)
            limit = self.limit if self.run and self.limit != Limit() else None
            door = self.ledger.door(model, refresh=self.refresh, run=self.run, limit=limit, meter=self.meter(role))
        self._doors[name, self.run] = door
        return door

    def _door_name(self, role: str) -> str:
        """Return what one door serves: a model, live or by batch jobs."""
        return f"{self.spec(role).model_dump_json()} batch={bool(self.recipe.role(role).batch)}"

    @property
    def tally(self) -> Tally:
        """Return what went through all doors so far, and what batch jobs answered."""
        return sum((tally for _, tally in self._tallies()), Tally())

    def _tallies(self) -> Iterator[tuple[str, Tally]]:
        """Yield what went through each door, with its name; a desk behind it included."""
        for (name, run), door in self._doors.items():
            known = self._first.get((name, run), Tally()) if self._first else door.tally
            yield name, replace(door.tally, known=known.known, shared=known.shared, known_usage=known.known_usage)
        for name, desk in self.desks.all():
            yield name, Tally(asked=desk.answered, asked_usage=desk.usage, spent=desk.spent)

    def spent(self) -> float | None:
        """Return the dollars paid through these doors, or None where a price is unknown."""
        if any(tally.asked and not self._priced(name) for name, tally in self._tallies()):
            return None
        return self.tally.spent.dollars

    def _priced(self, name: str) -> bool:
        return self._meters[name].price is not None

    @cached_property
    def _meters(self) -> dict[str, PriceMeter]:
        return {self._door_name(role): self.meter(role) for role in ROLES}

    def account(self, run: str | None = None) -> Account:
        """Return a run's purse over all its walks and processes: paid, in flight, perhaps lost."""
        return self.ledger.account(self.run if run is None else run)

    def money(self, *, walked: float = 0.0, left: float = 0.0) -> MoneyFacts:
        """Return where the money stands; cheap enough for a few times a second.

        walked, left: rows that this walk has ended (those under way for a half each) and those that it has not: what
                      the ones cost each is what the others are expected to
        """
        account, spent = self.account(), self.spent()
        saved: float | None = 0.0
        for name, tally in self._tallies():
            cost = self._meters[name].dollars(tally.known_usage, tally.known)
            saved = None if saved is None or cost is None else saved + cost
        known = all(self._priced(self._door_name(role)) for role in self.recipe.roles())
        return MoneyFacts(
            spent=spent,
            saved=saved,
            lost=account.lost.dollars if known else None,
            reserved=account.reserved.dollars if known else None,
            budget=limit_told(self.limit) if self.limit != Limit() else "",
            left=left_told(self.limit, account.total),
            projection=None if spent is None or walked <= 0 else spent + spent / walked * left,
        )

    async def _judge_can(self) -> Can:
        return await self._role_can("judge", self.recipe.judging.verdict)

    async def _critic_keeps_schema(self, wanted: Literal[True, "auto"]) -> bool:
        can = await self._role_can("critic", "structured")
        if wanted is True and not can.schema:
            name = self.model("critic").name
            raise BadInput(f"{name} takes no schema; write `structured: auto` or `false` under `critic`")
        return bool(can.schema)

    async def _role_can(self, role: str, wanted: Verdict) -> Can:
        try:
            return await self.abilities(role, wanted)
        except Aside as problem:
            # nothing was walked yet, so this is no row's own failure
            raise Halt(f"the {role} did not answer what it can do: {problem}; start again when it does") from problem

    async def abilities(self, role: str, wanted: Verdict = "auto", *, whole: bool = False) -> Can:
        """Return what a role's model can do, as far as `wanted` makes it matter (`whole`: all of it).

        What the model does not say itself is found by asking, with the role's provider options, and recorded in
        the ledger. A server may accept a parameter and ignore it: only an answer that has what was asked for counts
        as "can".
        """
        model, options = self.model(role), options_text(self.spec(role).options)
        name = _probe_name(model, options)
        recorded = None if self.refresh else self.ledger.probe(name)
        known = Can(**recorded) if recorded else Can()
        logprobs = model.can.logprobs if model.can.logprobs is not None else known.logprobs
        schema = model.can.schema if model.can.schema is not None else known.schema
        if wanted == "parsed" and not whole:
            return Can(logprobs, schema)
        if logprobs is None and (whole or wanted != "structured"):
            logprobs = await self._gives_logprobs(role, model, options)
        # a second question only where the first way is closed
        if schema is None and (whole or wanted == "structured" or (wanted == "auto" and not logprobs)):
            schema = await self._keeps_schema(role, model, options)
        can = Can(logprobs, schema)
        if can != known and can != model.can:
            self.ledger.record_probe(name, asdict(can))
        return can

    async def _gives_logprobs(self, role: str, model: Model, options: str) -> bool:
        labels = ("A", "B") if model.form == "chat" else (" A", " B")
        call = Call(model.identity, _probe(model), Sampling(None, None, 1), labels, options=options)
        reply = await self._probed(role, model, call)
        return reply is not None and reply.logprobs is not None and any(p is not None for p in reply.logprobs)

    async def _keeps_schema(self, role: str, model: Model, options: str) -> bool:
        if model.form == "text":
            return False
        call = Call(model.identity, _probe(model), Sampling(None, None, 64), schema=SCHEMA_LETTER, options=options)
        reply = await self._probed(role, model, call)
        return reply is not None and structured_verdict(reply.text) is not None

    async def _probed(self, role: str, model: Model, call: Call) -> Reply | None:
        """Return the reply, or None where the model rejects such a call; one that is away raises: it said nothing."""
        if self.offline:
            raise BadInput(
                f"offline, and no run has asked the {role} ({model.name}) yet whether it gives log-probabilities; "
                "run once without --offline, or write `verdict: parsed` under judging"
            )
        try:
            reply = await model(call)
        except Aside as problem:
            if problem.reason == "rejected_call":
                return None
            raise
        except RefusedParameter:
            return None
        # before any plan has a name: nobody's purse, but what was paid is written down
        await self.ledger.settle("", spent=self.meter(role).paid(reply.usage))
        return reply


def _less(usage: Usage, part: Usage) -> Usage:
    return Usage(*(getattr(usage, one.name) - getattr(part, one.name) for one in fields(Usage)))


def _probe_name(model: Model, options: str) -> str:
    """Return what a probe is recorded under: form and options may decide what a model can do."""
    if model.form == "chat" and options == "{}":
        return model.identity
    return f"{model.identity}#{tagged('solon.probe/1', [model.form, options])[:16]}"


def _probe(model: Model) -> tuple[Message, ...]:
    if model.form == "text":
        return (Message("text", PROBE_TEXT),)
    return (Message("user", PROBE),)


PROBE = "Reply with one letter, A or B: which of them comes first in the alphabet?"
PROBE_TEXT = "Question: which letter comes first in the alphabet, A or B?\n\nAnswer:"
