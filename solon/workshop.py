"""The workshop opens the ledger and the models once, and lends them to runs, plans and checks.

It is the only place that knows both a ledger and a provider: what walks a row sees a Cast, and a Cast cannot tell
a live model from memory.

    async with Workshop(recipe, base) as shop:
        cast = await shop.cast()
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType

from solon.calls import Call, Can, Message, Model, Reply, Sampling, options_text
from solon.cast import ROLES, Cast, Player
from solon.errors import Aside
from solon.judges.pairwise import SCHEMA_LETTER
from solon.judges.verdict import structured_verdict
from solon.ledger import Door, Ledger, Tally
from solon.models import open_model
from solon.models.spec import ModelSpec, Price
from solon.pipelines.plan import StepCount
from solon.pipelines.recipe import Recipe

__all__ = ["Workshop"]


class Workshop:
    """Ledger and models of one recipe. Use it as an async context manager.

    offline: nothing stands behind the ledger; what it does not know sets its row aside as "not_known"
    refresh: every call is asked anew once
    """

    def __init__(self, recipe: Recipe, base: Path, *, offline: bool = False, refresh: bool = False) -> None:
        self.recipe = recipe
        self.base = base
        self.offline = offline
        self.refresh = refresh
        self.ledger_path = base / recipe.ledger
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
        """Give everything back; calls in flight get `grace` seconds to be written down."""
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
            self._models[name] = open_model(spec, base=self.base)
        return self._models[name]

    def price(self, role: str) -> Price | None:
        """Return dollars a million tokens, or None where nobody said. A model on this machine costs nothing."""
        spec = self.spec(role)
        if spec.price is None and spec.provider in ("local", "scripted"):
            return Price(input=0, output=0)
        return spec.price

    async def cast(self) -> Cast:
        """Return the recipe's cast, its doors through the ledger. Asks the judge what it can do, once for ever."""
        judge = self.model("judge")
        cans = {role: self.model(role).can for role in ROLES}
        cans["judge"] = await self.abilities(judge, wanted=self.recipe.judging.verdict)
        return Cast(**{role: self._player(role, cans[role]) for role in ROLES})

    async def dry_cast(self) -> Cast:
        """Return the same cast with nothing behind the ledger: it answers from memory or not at all."""
        cast = await self.cast()
        door = self.ledger.door(None)
        return Cast(*(replace(player, ask=door) for player in cast.players()))

    def call(self, role: str, messages: tuple[Message, ...], sampling: Sampling) -> Call:
        """Return a call to a role's model with the provider options that the recipe gives it."""
        return Call(self.model(role).identity, messages, sampling, options=options_text(self.spec(role).options))

    def tallies(self) -> dict[str, Tally]:
        """Return what went through each model's door so far, by the model's name."""
        return {self._models[name].name: door.tally for name, door in self._doors.items()}

    def spent(self) -> float | None:
        """Return the dollars paid through these doors, or None where a price is unknown."""
        total = 0.0
        prices = {self.spec(role).model_dump_json(): self.price(role) for role in ROLES}
        for name, door in self._doors.items():
            cost = dollars(prices.get(name), door.tally)
            if cost is None:
                return None
            total += cost
        return total

    async def abilities(self, model: Model, *, wanted: str = "auto") -> Can:
        """Return what `model` can do. What it does not say itself is found by asking, and recorded in the ledger.

        A server may accept a parameter and ignore it: only an answer that has what was asked for counts as "can".
        """
        logprobs, schema = model.can.logprobs, model.can.schema
        if wanted == "parsed":
            return Can(bool(logprobs), bool(schema))
        recorded = self.ledger.probe(model.identity)
        if recorded is not None and not self.refresh:
            return Can(**recorded)
        if self.offline or (logprobs is not None and (logprobs or schema is not None)):
            return model.can
        if logprobs is None:
            logprobs = await self._gives_logprobs(model)
        if schema is None:
            # a second question only where the first way is closed
            schema = None if logprobs else await self._keeps_schema(model)
        can = Can(logprobs, schema)
        self.ledger.record_probe(model.identity, asdict(can))
        return can

    def _player(self, role: str, can: Can) -> Player:
        spec, model = self.recipe.role(role), self.model(role)
        name = self.spec(role).model_dump_json()
        if name not in self._doors:
            self._doors[name] = self.ledger.door(None if self.offline else model, refresh=self.refresh)
        return Player(
            role=role,
            ask=self._doors[name],
            model=model.identity,
            name=model.name,
            form=model.form,
            can=can,
            sampling=self.recipe.sampling(role),
            system=spec.system,
            options=options_text(self.spec(role).options),
            again=spec.again or 0,
            cut=spec.cut or "aside",
        )

    async def _gives_logprobs(self, model: Model) -> bool:
        labels = ("A", "B") if model.form == "chat" else (" A", " B")
        reply = await self._probed(model, Call(model.identity, _probe(model), Sampling(None, None, 1), labels))
        return reply is not None and reply.logprobs is not None and any(p is not None for p in reply.logprobs)

    async def _keeps_schema(self, model: Model) -> bool:
        if model.form == "text":
            return False
        call = Call(model.identity, _probe(model), Sampling(None, None, 64), schema=SCHEMA_LETTER)
        reply = await self._probed(model, call)
        return reply is not None and structured_verdict(reply.text) is not None

    async def _probed(self, model: Model, call: Call) -> Reply | None:
        """Return the reply, or None where the model rejects such a call; one that is away raises: it said nothing."""
        try:
            return await model(call)
        except Aside as problem:
            if problem.reason == "rejected_call":
                return None
            raise


def dollars(price: Price | None, tally: Tally) -> float | None:
    """Return what the asked calls of a tally cost, or None where the price is unknown."""
    if price is None:
        return None if tally.asked else 0.0
    usage = tally.asked_usage
    cached = price.input if price.cached is None else price.cached
    fresh = usage.input - usage.cached
    return (fresh * price.input + usage.cached * cached + usage.output * price.output) / 1e6


def dollars_for(price: Price | None, count: StepCount, most: int) -> tuple[float, float] | None:
    """Return (certain, at most) dollars for the new calls of one step, or None where the price is unknown.

    What a known answer of this step cost on average is the estimate for a new one; where none is known, a token a
    four characters of question, and `most` tokens of answer.
    """
    if not count.at_most:
        return 0.0, 0.0
    if price is None:
        return None
    if count.known:
        usage = count.known_usage
        each = (usage.input * price.input + usage.output * price.output) / count.known
    else:
        chars = count.certain_chars / count.certain if count.certain else CHARS_UNSEEN
        each = chars / 4 * price.input + most * price.output
    return count.certain * each / 1e6, count.at_most * each / 1e6


def _probe(model: Model) -> tuple[Message, ...]:
    if model.form == "text":
        return (Message("text", PROBE_TEXT),)
    return (Message("user", PROBE),)


CHARS_UNSEEN = 2000  # of a question that cannot be written yet, since it quotes answers that are still to come

PROBE = "Reply with one letter, A or B: which of them comes first in the alphabet?"
PROBE_TEXT = "Question: which letter comes first in the alphabet, A or B?\n\nAnswer:"
