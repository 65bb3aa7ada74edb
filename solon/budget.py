"""The budget of a recipe: what a run may spend at most, in dollars, tokens or calls, read strictly.

    budget: 25 USD
    budget: 2M tokens
    budget: {usd: 25, calls: 5000}

It is no part of a plan's name: raising it goes on with the same run. 0 asks nobody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from solon.complaints import counted, one_of, short
from solon.spend import DOLLAR, Limit, Spend

__all__ = ["Budget", "BudgetField", "left_told", "limit_told"]

_UNITS = {"usd": "usd", "dollar": "usd", "dollars": "usd", "$": "usd", "token": "tokens", "tokens": "tokens",
          "call": "calls", "calls": "calls"}  # fmt: skip
MOST = {"usd": 10**9, "tokens": 10**15, "calls": 10**15}
"""What the ledger can count to, with room to spare."""
_SHORT = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}
_AMOUNT = re.compile(r"(?P<sign>[-+]?)(?P<number>\d[\d_,]*(?:\.\d+)?|\.\d+)\s?(?P<short>[kKmMbB]?)")
_WORDS = re.compile(r"(?P<amount>[-+]?[\d._,]+(?:\s?[kKmMbB](?![A-Za-z]))?)\s*(?P<unit>.*)", re.DOTALL)
_WAYS = "write `25 USD`, `2M tokens` or `5000 calls`, or several as {usd: 25, calls: 5000}"


def _amount(value: Any, name: str) -> Decimal:
    """Return the amount that a key of a budget is given: a number, or a text as 2M or 1,000. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{name}: expected a number, found {short(str(value))!r}")
    found = _AMOUNT.fullmatch(str(value).strip())
    if found is None or found["sign"] == "-":
        why = "must be at least 0" if found or str(value).startswith("-") else "expected a number"
        raise ValueError(f"{name}: {why}, found {short(str(value))!r}")
    digits = found["number"].replace("_", "").replace(",", "")
    amount = Decimal(digits) * _SHORT[found["short"].lower()]
    if amount > MOST[name]:
        raise ValueError(
            f"{name}: must be at most {MOST[name]:,}, found {short(str(value))!r}; leave it out for no limit"
        )
    if name != "usd" and amount != int(amount):
        raise ValueError(f"{name}: expected a whole number, found {short(str(value))!r}")
    return amount


def _usd(value: Any) -> Any:
    return None if value is None else _amount(value.removeprefix("$") if isinstance(value, str) else value, "usd")


def _tokens(value: Any) -> Any:
    return None if value is None else int(_amount(value, "tokens"))


def _calls(value: Any) -> Any:
    return None if value is None else int(_amount(value, "calls"))


class Budget(BaseModel):
    """What a run may spend at most, over all its walks and processes. One that is left out is without limit.

    usd:    US dollars, at the prices of its models; every model of the story needs one
    tokens: of questions and answers together, as the provider counts them
    calls:  answered, lost on the way, or in flight
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usd: Annotated[Decimal | None, BeforeValidator(_usd, json_schema_input_type=float | str | None)] = None
    tokens: Annotated[int | None, BeforeValidator(_tokens, json_schema_input_type=int | str | None)] = None
    calls: Annotated[int | None, BeforeValidator(_calls, json_schema_input_type=int | str | None)] = None

    @property
    def limit(self) -> Limit:
        """Return it in the measures that the ledger counts in."""
        return Limit(self.calls, self.tokens, None if self.usd is None else int(self.usd * DOLLAR))


def _read(value: Any) -> Any:
    """Return a budget's short form as its mapping. Raises ValueError with the remedy."""
    if value is None or isinstance(value, Budget):
        return value
    if isinstance(value, Mapping):
        if not value:
            raise ValueError(f"an empty mapping limits nothing; {_WAYS}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"expected a budget, found {short(str(value))!r}; {_WAYS}")
    text = str(value).strip()
    if text.startswith("$"):
        text = f"{text[1:]} USD"
    found = _WORDS.fullmatch(text)
    if found is None:
        raise ValueError(f"{short(text)!r} is no amount; {_WAYS}")
    amount, unit = found["amount"], found["unit"]
    if not unit:
        raise ValueError(f"{short(text)!r} does not say of what; {_WAYS}")
    if unit.lower() not in _UNITS:
        known = ["USD", "tokens", "calls"]
        remedy = f"prices are in US dollars, so write it in USD; {_WAYS}" if _foreign(unit) else one_of(unit, known)
        raise ValueError(f"{short(text)!r}: no measure {short(unit)!r}; {remedy}")
    name = _UNITS[unit.lower()]
    _amount(amount, name)  # told here, with the text around it
    return {name: amount}


def _foreign(unit: str) -> bool:
    return unit.upper() in ("EUR", "GBP", "JPY", "CNY", "CHF", "INR", "€", "£", "¥")


BudgetField = Annotated[Budget | None, BeforeValidator(_read, json_schema_input_type=str | Budget | None)]
"""A recipe's `budget:` in its short or its long form."""


def limit_told(limit: Limit) -> str:
    """Return "25 USD", "2,000,000 tokens and 5,000 calls", "no budget"."""
    told = [f"{Decimal(limit.nano) / DOLLAR:,f} USD"] if limit.nano is not None else []
    told += [counted(limit.tokens, "token")] if limit.tokens is not None else []
    told += [counted(limit.calls, "call")] if limit.calls is not None else []
    return " and ".join(told) or "no budget"


def left_told(limit: Limit, used: Spend) -> str:
    """Return what a limit leaves, in the measures that it is stated in: "21.90 USD", "3,000 calls"; never below 0."""
    told = [f"{max(limit.nano - used.nano, 0) / DOLLAR:,.2f} USD"] if limit.nano is not None else []
    told += [counted(max(limit.tokens - used.tokens, 0), "token")] if limit.tokens is not None else []
    told += [counted(max(limit.calls - used.calls, 0), "call")] if limit.calls is not None else []
    return " and ".join(told)
