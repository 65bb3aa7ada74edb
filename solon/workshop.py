"""The workshop opens the ledger and the models once, and lends them to runs, plans and checks.

It is the only place that knows both a ledger and a provider: what walks a row sees a Cast, and a Cast cannot tell
a live model from memory.

    async with Workshop(recipe, base) as shop:
        cast = await shop.cast()
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Literal

from solon.budget import limit_told
from solon.calls import Call, Can, Message, Model, Reply, Sampling, options_text
from solon.cast import ROLES, Cast, Player
from solon.digests import tagged
from solon.errors import Aside, BadInput, Halt, RefusedParameter
from solon.judges.pairwise import SCHEMA_LETTER
from solon.judges.verdict import structured_verdict
from solon.ledger import Door, Ledger, Tally
from solon.models import open_model
from solon.models.spec import ModelSpec, Price
from solon.pipelines.recipe import AgainSpec, Recipe
from solon.pipelines.walk import Progress
from solon.prices import PriceMeter, PriceTable
from solon.spend import Limit, Spend

__all__ = ["Workshop"]

Verdict = Literal["auto", "logprobs", "structured", "parsed"]


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
        self._doors: dict[str, Door] = {}

    async def __aenter__(self) -> Workshop:
        self.ledger = Ledger.open(self.ledger_path)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, *, grace: float = 0.0) -> None:
        """Give everything back; calls in flight get `grace` seconds to be written down. May be called twice."""
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
            self._models[name] = open_model(self._share_of(spec), base=self.base)
        return self._models[name]

    def _share_of(self, spec: ModelSpec) -> ModelSpec:
        """Return `spec` with this process's part of what limits its server; whole numbers, at least 1."""
        limits = ("concurrency", "requests_per_minute", "tokens_per_minute")
        stated = {name: getattr(spec, name, None) for name in limits}
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

        Raises BadInput where the budget is in money and a model's price is unknown: nobody could keep it.
        """
        if self.limit.nano is not None:
            self._check_priced(roles or self.recipe.roles())
        for role in roles or self.recipe.roles():
            if problem := getattr(self.model(role), "unusable", ""):
                raise Halt(problem)

    def _check_priced(self, roles: Iterable[str]) -> None:
        priceless: dict[str, list[str]] = {}
        for role in roles:
            if self.price(role) is None:
                priceless.setdefault(self.spec(role).use, []).append(role)
        if not priceless:
            return
        named = ", ".join(f"{use} ({' and '.join(who)})" for use, who in priceless.items())
        raise BadInput(
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
        name = self._door_name(role)
        if name not in self._doors:
            self._doors[name] = self.ledger.door(None if self.offline else model, refresh=self.refresh)
        return Player(
            role=role,
            ask=self._doors[name],
            model=model.identity,
            name=model.name,
            form=model.form,
            can=model.can,
            sampling=self.recipe.sampling(role),
            system=spec.system,
            options=options_text(self.spec(role).options),
            again=max(spec.anew.values()),
            anew=spec.anew if isinstance(spec.again, AgainSpec) else None,
            cut=spec.cut or "aside",
        )

    def appetite(self) -> int:
        """Return how many rows at once keep the models busy: a quarter more than the calls that they take just now."""
        calls = sum(model.concurrency for model in self._models.values())
        return calls + calls // 4 + 8

    async def collect(self, stop: asyncio.Event, tell: Callable[[Progress], None]) -> bool:
        """Let what is parked be answered by batch jobs; return whether anything may be walked on."""
        return False

    def settle(self, progress: Progress) -> None:
        """Count what the doors saw: calls in flight at an interrupt are paid for though their rows were dropped."""
        tally = self.tally
        progress.known, progress.asked, progress.failed = tally.known + tally.shared, tally.asked, tally.failed
        progress.usage = tally.asked_usage

    def _door_name(self, role: str) -> str:
        """Return what one door serves: a model, live or by batch jobs."""
        return f"{self.spec(role).model_dump_json()} batch={bool(self.recipe.role(role).batch)}"

    @property
    def tally(self) -> Tally:
        """Return what went through all doors so far."""
        return sum((door.tally for door in self._doors.values()), Tally())

    def spent(self) -> float | None:
        """Return the dollars paid through these doors, or None where a price is unknown."""
        meters = {self._door_name(role): self.meter(role) for role in ROLES}
        total = 0.0
        for name, door in self._doors.items():
            cost = meters[name].dollars(door.tally.asked_usage, door.tally.asked)
            if cost is None:
                return None
            total += cost
        return total

    def used(self, run: str) -> Spend:
        """Return what a run's purse holds: paid, in flight, and perhaps lost."""
        return Spend()

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
            return await model(call)
        except Aside as problem:
            if problem.reason == "rejected_call":
                return None
            raise
        except RefusedParameter:
            return None


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
