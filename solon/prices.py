"""What calls cost: a dated table of the providers' prices, a recipe's own prices before it, and the meter of one model.

    table = PriceTable.open(yamls.located(recipe.prices, base))
    price = table.price(spec)               # None where nobody says: an unknown price is never zero
    meter = PriceMeter(price, batch=True)   # solon.spend.Meter: what a call costs at worst, what an answer cost

Three places say a price, the nearest first: `price:` with the model in the recipe; the file that the recipe's
`prices:` names; `prices.yaml` beside this file. The last two say what a provider charges at one address, so that a
model at another address has no price unless its recipe states one. Models on this machine cost nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from solon import yamls
from solon.calls import Call, Usage
from solon.errors import BadInput
from solon.models.server import Server, normalised_url
from solon.models.spec import LongPrice, ModelSpec, Price
from solon.spend import DOLLAR, Spend

__all__ = ["PriceMeter", "PricePage", "PriceTable", "Priced", "question_tokens"]

SHIPPED = Path(__file__).with_name("prices.yaml")
OWN_ADDRESSES = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}
FREE = Price(input=0, output=0)
_DATED = re.compile(r"-20\d\d(-?)(0[1-9]|1[0-2])\1(0[1-9]|[12]\d|3[01])")
_PRICED_OTHERWISE = ("service_tier", "speed", "inference_geo")
"""Provider options that change what a token costs; `service_tier` of these values does not."""
_USUAL_TIERS = ("default", "standard_only")


class Listing(BaseModel):
    """What one provider charges at one address.

    address: where these prices hold; left out, the provider's own address
    source:  the page that says them
    read:    the day on which they were read there (YYYY-MM-DD)
    batch:   what a call of a batch job costs, as a share of the same call asked live; a model's own goes before it
    models:  by the model's name: `input`, `output`, `cached`, `cache_write`, `batch`, `long`, as under `price:`
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str | None = None
    source: str = ""
    read: str
    batch: float | None = Field(None, ge=0, le=1)
    models: dict[str, Price]

    @field_validator("address")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                normalised_url(value, "address")
            except BadInput as problem:
                raise ValueError(str(problem)) from None
        return value

    @field_validator("read")
    @classmethod
    def _is_a_day(cls, value: str) -> str:
        try:
            return date.fromisoformat(value).isoformat()
        except ValueError:
            raise ValueError(f"{value!r} is no day; write it as 2026-11-30") from None

    def find(self, name: str) -> tuple[str, Price] | None:
        """Return the price of a model and the name that it is listed by: its own, or its family's with a date after."""
        family = name if name in self.models else None
        if family is None:
            begun = [each for each in self.models if _DATED.fullmatch(name.removeprefix(each))]
            family = max(begun, key=len, default=None)
        if family is None:
            return None
        price = self.models[family]
        return family, price if price.batch is not None else price.model_copy(update={"batch": self.batch})


class PricePage(BaseModel):
    """A file of prices, by provider."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    openai: Listing | None = None
    anthropic: Listing | None = None


@dataclass(frozen=True)
class Priced:
    """A price, and who says so: the recipe, or a file with the listed name, the page and the day."""

    price: Price
    by: str
    name: str = ""
    source: str = ""
    read: str = ""


@dataclass(frozen=True)
class PriceTable:
    """Files of prices, the nearest first, each with its name."""

    pages: tuple[tuple[str, PricePage], ...]

    @classmethod
    def open(cls, own: Path | None = None) -> PriceTable:
        """Return the shipped table, with the file `own` before it. Raises BadInput, every mistake with its line."""
        pages = [] if own is None else [(str(own), yamls.build(PricePage, yamls.read(own)))]
        return cls((*pages, ("the table of Solon", _shipped())))

    def priced(self, spec: ModelSpec) -> Priced | None:
        """Return what this model costs and who says so; None where nobody does."""
        if spec.price is not None:
            return Priced(spec.price, "the recipe")
        if spec.provider in ("local", "scripted"):
            return Priced(FREE, "this machine")
        if any(_unusual(name, spec.options.get(name)) for name in _PRICED_OTHERWISE):
            return None
        for by, page in self.pages:
            listing: Listing | None = getattr(page, spec.provider)
            if listing is None or not _holds_at(listing, spec):
                continue
            if found := listing.find(spec.target):
                return Priced(found[1], by, found[0], listing.source, listing.read)
        return None

    def price(self, spec: ModelSpec) -> Price | None:
        """Return dollars a million tokens, None where nobody says."""
        priced = self.priced(spec)
        return priced.price if priced else None


@lru_cache(maxsize=1)
def _shipped() -> PricePage:
    return yamls.build(PricePage, yamls.read(SHIPPED))


def _holds_at(listing: Listing, spec: ModelSpec) -> bool:
    own = OWN_ADDRESSES[spec.provider]
    address = normalised_url(listing.address, "address") if listing.address else own
    if spec.provider == "anthropic":
        address = address.removesuffix("/v1")  # both spellings are one server
    return Server.of(spec, own_url=own).url == address


def _unusual(option: str, value: Any) -> bool:
    return value is not None and not (option == "service_tier" and value in _USUAL_TIERS)


# -- the meter -----------------------------------------------------------------------------------------------

SCALE = 1_000_000
"""Rates are kept in millionths of a `nano`, whole numbers: a price may be a thousandth of a cent a million tokens."""
PER_MESSAGE = 8
PER_CALL = 64
PER_SCHEMA = 512
LABEL_TOKENS = 8
"""The least that is reckoned for an answer whose labels are weighed: its first few tokens may be looked at."""


def question_tokens(call: Call) -> int:
    """Return at least as many tokens as a call's question has.

    One a byte of its UTF-8, which no vocabulary of bytes exceeds (English has four bytes a token, digits and hashes
    may have one); 8 a message and 64 a call for what a chat template puts around them, 512 and the schema itself where
    the answer is bound by one.
    """
    tokens = PER_CALL + sum(PER_MESSAGE + _bytes(message.content) for message in call.messages)
    return tokens + (PER_SCHEMA + _bytes(call.schema) if call.schema is not None else 0)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class _Rates:
    """Millionths of a `nano` a token."""

    input: int
    cached: int
    written: int
    output: int

    @classmethod
    def of(cls, price: Price | LongPrice, share: Fraction) -> _Rates:
        def rate(dollars: float | None) -> int:
            # dollars a million tokens are thousands of nano a token; a part of a millionth is rounded up
            each = Fraction(str(price.input if dollars is None else dollars)) * 1000 * SCALE * share
            return -(-each.numerator // each.denominator)

        return cls(rate(price.input), rate(price.cached), rate(price.cache_write), rate(price.output))

    def cost(self, usage: Usage) -> int:
        """Return `nano`, rounded up."""
        fresh = max(usage.input - usage.cached - usage.written, 0)
        before = fresh * self.input + usage.cached * self.cached + usage.written * self.written
        return -(-(before + usage.output * self.output) // SCALE)


@dataclass(frozen=True)
class PriceMeter:
    """What one model's calls cost, live or in batch jobs (`solon.spend.Meter`); an unknown price counts 0 nano."""

    price: Price | None
    batch: bool = False

    def worst(self, call: Call) -> Spend:
        """Return the most that one attempt at `call` can cost: its question, none of it cached, and all of max_tokens.

        Where a question turns out longer than `question_tokens` says, what was paid is counted as it was, and the call
        costs that much more than was kept back for it.
        """
        asked, said = question_tokens(call), _most_said(call)
        rates = self._rates_at(asked)
        dearest = max(rates.input, rates.written) if rates else 0
        nano = -(-(asked * dearest + said * rates.output) // SCALE) if rates else 0
        return Spend(1, asked + said, nano)

    def paid(self, usage: Usage) -> Spend:
        """Return what an answered call cost: by its provider's count of tokens, in `nano`, rounded up."""
        rates = self._rates_at(usage.input)
        return Spend(1, usage.input + usage.output, rates.cost(usage) if rates else 0)

    def dollars(self, usage: Usage, calls: int) -> float | None:
        """Return what so many answered calls cost that took `usage` together, None where the price is unknown."""
        rates = self._rates_at(usage.input // max(calls, 1))
        if rates is None:
            return None if calls else 0.0
        return rates.cost(usage) / DOLLAR

    def _rates_at(self, asked: int) -> _Rates | None:
        usual, above, long = self._rates
        return long if above is not None and asked > above else usual

    @cached_property
    def _rates(self) -> tuple[_Rates | None, int | None, _Rates | None]:
        """Return the usual rates, from how long a question on others hold, and those."""
        if self.price is None:
            return None, None, None
        known = self.price.batch is not None and self.batch
        share = Fraction(str(self.price.batch)) if known else Fraction(1)
        usual, long = _Rates.of(self.price, share), self.price.long
        return (usual, None, None) if long is None else (usual, long.above, _Rates.of(long, share))


def _most_said(call: Call) -> int:
    """Return the most tokens of answer that a call may be billed for."""
    asked = max(call.sampling.max_tokens, LABEL_TOKENS if call.labels else 0)
    if call.options == "{}":
        return asked
    own, answers = _limits_of(call.options)
    return (asked if own is None else own) * answers


@lru_cache(maxsize=64)
def _limits_of(options: str) -> tuple[int | None, int]:
    """Return what a recipe's own provider options say: another max_tokens, and how many answers."""
    given = json.loads(options)
    limits = list(_whole_numbers(given.get(name) for name in ("max_tokens", "max_completion_tokens")))
    answers = list(_whole_numbers([given.get("n")]))
    return max(limits, default=None), max(answers, default=1)


def _whole_numbers(values: Any) -> Iterator[int]:
    return (value for value in values if isinstance(value, int) and not isinstance(value, bool) and value > 0)
