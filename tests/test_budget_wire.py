"""A budget against a real server that bills what it answers, heard or not: its own books stay within the cap."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from run_kit import Desk, data_of, desk
from wire import Wire, chat

from solon.commands import Done, run_recipe
from solon.ledger import Account
from solon.models.spec import Price
from solon.prices import PriceMeter
from solon.spend import Spend
from solon.workshop import Workshop

PRICE = {"input": 1000, "output": 4000, "cached": 100}
WORDS = 20


class Books(Wire):
    """A server with a price: answers by the question's hash, and bills every answer that it begins.

    hangs: every so many requests one is billed and never answered
    """

    def __init__(self, hangs: int = 0) -> None:
        super().__init__()
        self.hangs = hangs
        self.billed = 0.0
        self.questions: Counter[str] = Counter()
        self.heard = 0

    @property
    def unheard(self) -> int:
        return sum(self.questions.values()) - self.heard

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        name = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        self.questions[name] += 1
        asked = sum(len(turn["content"]) for turn in body["messages"]) // 4
        cached = asked // 2
        self.billed += ((asked - cached) * PRICE["input"] + cached * PRICE["cached"] + WORDS * PRICE["output"]) / 1e6
        if self.hangs and sum(self.questions.values()) % self.hangs == 0:
            await asyncio.sleep(30)  # the client gives up, and this task is cancelled
        self.heard += 1
        letter = "AB"[int(name[0], 16) % 2]
        said = chat(f"Words {name[:12]} and so on. Answer: {letter}")
        said["usage"] = {
            "prompt_tokens": asked, "completion_tokens": WORDS, "prompt_tokens_details": {"cached_tokens": cached},
        }  # fmt: skip
        return web.json_response(said)


def made_for(path: Path, server: Books, **recipe: Any) -> Desk:
    # by one name, whatever the port: the calls of two servers are the same calls
    model = {"use": "openai:house", "base_url": f"{server.url}/v1", "identity": "house", "price": PRICE, "timeout": 0.4}
    everyone = {"everyone": {"max_tokens": 40}}
    return desk(
        path, prompts=12, model=model, cast=everyone, judging={"verdict": "parsed"}, **recipe
    )  # fmt: skip


async def run(made: Desk) -> tuple[Done, Account]:
    done = await run_recipe(made.recipe)
    async with Workshop(done.folder.recipe, made.path, offline=True) as shop:
        return done, shop.account(done.folder.path.name)


async def test_half_the_price_stops_at_the_cap_and_the_servers_books_agree(tmp_path: Path) -> None:
    async with Books() as server:
        whole, purse = await run(made_for(tmp_path / "whole", server))
        assert purse.spent.dollars == pytest.approx(server.billed, rel=1e-6)
        assert whole.dollars == pytest.approx(server.billed, rel=1e-6)
        price = server.billed
    async with Books() as server:
        made = made_for(tmp_path / "half", server, budget={"usd": round(price / 2, 9)})
        done, purse = await run(made)
        assert done.progress.over_budget
        assert server.billed <= price / 2
        assert server.billed > price / 2 - 1.0  # no call of this desk is reckoned at a dollar
        assert purse.spent.dollars == pytest.approx(server.billed, rel=1e-6)
        made.write(budget={"usd": round(2 * price, 9)})
        server_before = Counter(server.questions)
        done, purse = await run(made)
        assert not done.progress.over_budget
        assert max(server.questions.values()) == 1  # no call was repeated
        assert server_before <= server.questions
        assert server.billed == pytest.approx(price, rel=1e-6)
        assert data_of(done.folder.path) == data_of(whole.folder.path)


async def test_calls_that_time_out_count_as_billed_and_the_servers_books_stay_within_the_cap(tmp_path: Path) -> None:
    async with Books() as server:
        await run(made_for(tmp_path / "whole", server))
        price = server.billed
    async with Books(hangs=6) as server:
        made = made_for(tmp_path / "half", server, budget={"usd": round(price / 2, 9)})
        done, purse = await run(made)
        assert done.progress.over_budget
        assert server.unheard > 0
        assert purse.spent.calls == server.heard
        assert purse.lost.calls == server.unheard
        assert purse.reserved == Spend()
        assert purse.total.dollars <= price / 2
        # the purse reckons the lost ones at their most, so that the server's own books are below it
        assert server.billed <= purse.total.dollars
        made.write(budget={"usd": round(6 * price, 9)})
        done, purse = await run(made)
        assert not done.progress.over_budget
        assert purse.lost.calls == server.unheard
        assert server.billed <= purse.total.dollars


async def test_the_money_of_a_walk_is_told_while_it_goes_on(tmp_path: Path) -> None:
    async with Books() as server:
        made = made_for(tmp_path / "desk", server, budget="50 USD")
        done, purse = await run(made)
        async with Workshop(done.folder.recipe, made.path) as shop:
            shop.run = done.folder.path.name
            cast = await shop.cast()
            fresh = shop.money(walked=0, left=12)
            assert (fresh.spent, fresh.saved, fresh.projection) == (0.0, 0.0, None)
            assert fresh.budget == "50 USD"
            assert fresh.left == f"{50 - purse.spent.dollars:,.2f} USD"
            await cast.responder([_user("Something new?")], step="respond")
            known = [_user("How do I do thing number 1?")]
            await cast.responder(known, step="respond")
            asked = shop.money(walked=1, left=3)
            meter = PriceMeter(Price.model_validate(PRICE))
            one = meter.paid(shop.tally.asked_usage).dollars
            assert shop.tally.asked == shop.tally.known == 1
            assert asked.spent == shop.spent() == one
            assert asked.saved is not None
            assert asked.saved > 0
            assert asked.projection == pytest.approx(4 * one)
            assert (asked.lost, asked.reserved) == (0.0, 0.0)
            assert shop.account().spent.dollars == pytest.approx(purse.spent.dollars + one)


async def test_the_money_of_a_priceless_model_is_unknown_and_never_nought(tmp_path: Path) -> None:
    async with Books() as server:
        made = made_for(tmp_path / "desk", server)
        model = {"use": "openai:house", "base_url": f"{server.url}/v1"}
        made.write(model=model, budget="500 calls")
        done, purse = await run(made)
        assert done.dollars is None
        async with Workshop(done.folder.recipe, made.path) as shop:
            shop.run = done.folder.path.name
            cast = await shop.cast()
            await cast.responder([_user("Something new?")], step="respond")
            money = shop.money(walked=1, left=3)
            assert (money.spent, money.projection, money.lost, money.reserved) == (None, None, None, None)
            assert money.left == f"{500 - purse.spent.calls - 1} calls"


async def test_what_the_judge_is_asked_about_itself_is_paid_by_nobodys_purse(tmp_path: Path) -> None:
    async with Books() as server:
        made = made_for(tmp_path / "desk", server)
        made.write(judging={"verdict": "auto"})
        async with Workshop((await run(made))[0].folder.recipe, made.path) as shop:
            nobody = shop.account("")
            assert nobody.spent.calls == 2  # does it give log-probabilities, does it keep a schema
            assert nobody.spent.nano > 0


def _user(text: str) -> Any:
    from solon.calls import Message

    return Message("user", text)
