"""What servers say of their limits, in both families of headers, and how long they ask us to wait."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest
from multidict import CIMultiDict
from wire import Answer, Wire, asking, chat

from solon.errors import CallFailed
from solon.models import open_model
from solon.models.pace import Paces
from solon.models.pace.limits import Told, read, retry_after, seconds_of
from solon.models.spec import ModelSpec

OPENAI = {
    "x-ratelimit-limit-requests": "600",
    "x-ratelimit-remaining-requests": "598",
    "x-ratelimit-reset-requests": "200ms",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-tokens": "6m0s",
}
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"


@pytest.mark.parametrize("kind", [dict, httpx2.Headers, CIMultiDict], ids=["dict", "httpx2", "aiohttp"])
def test_openais_headers_are_read_from_whatever_holds_them(kind: type) -> None:
    said = {"requests": Told(600, 598, 0.2), "tokens": Told(150_000, 149_984, 360)}
    assert read(kind(OPENAI)) == said
    assert read(kind({name.title(): value for name, value in OPENAI.items()})) == said


@pytest.mark.parametrize("what", ["requests", "tokens", "input-tokens", "output-tokens"])
def test_anthropics_reset_is_a_time_that_is_taken_against_the_answers_own_date(what: str) -> None:
    headers = {
        "Date": DATE,
        f"anthropic-ratelimit-{what}-limit": "50",
        f"anthropic-ratelimit-{what}-remaining": "0",
        f"anthropic-ratelimit-{what}-reset": "2027-01-15T08:00:41Z",
    }
    assert read(headers) == {what: Told(50, 0, 41)}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("250ms", 0.25),
        ("1h2m3.5s", 3723.5),
        ("1d", 86_400),
        ("0.5", 0.5),
        ("12", 12),
        ("2027-01-15T08:01:00+00:00", 60),
        ("2027-01-15T09:01:00+01:00", 60),
        ("2027-01-15T07:00:00Z", 0),
        ("2099-01-01T00:00:00Z", 86_400),
        ("2027-01-15T08:01:00", None),
        ("-3", None),
        ("1e12", None),
        ("soon", None),
        ("", None),
        ("5 s", None),
    ],
)
def test_a_reset_is_a_duration_or_a_time(text: str, seconds: float | None) -> None:
    assert seconds_of(text, {"date": DATE}) == seconds


@pytest.mark.parametrize(
    "broken",
    [
        {"x-ratelimit-limit-requests": "many"},
        {"x-ratelimit-remaining-requests": ""},
        {"x-ratelimit-limit-requests": "0"},
        {"x-ratelimit-limit-requests": "nan"},
        {"x-ratelimit-limit-requests": "inf"},
        {"x-ratelimit-remaining-requests": "-1"},
        {"x-ratelimit-remaining-requests": "601"},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_left_out_and_the_rest_is_read(broken: dict[str, str]) -> None:
    assert list(read(OPENAI | broken)) == ["tokens"]


def test_a_limit_without_its_remainder_says_too_little_and_one_without_its_reset_is_a_minutes() -> None:
    assert read({"x-ratelimit-limit-requests": "600"}) == {}
    assert read({"x-ratelimit-remaining-requests": "600"}) == {}
    without = {name: value for name, value in OPENAI.items() if "reset" not in name}
    assert [told.reset for told in read(without).values()] == [60, 60]


def test_an_answer_without_such_headers_tells_nothing() -> None:
    assert read({}) == {}
    assert read({"content-type": "application/json", "x-ratelimit-mood": "good"}) == {}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7.5"}, 7.5),
        ({"Retry-After": "7"}, 7),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT", "date": DATE}, 30),
        ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT", "date": DATE}, 0),
        ({"retry-after": "Fri, 15 Jan 2055 08:00:00 GMT", "date": DATE}, 86_400),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "later"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_our_wall_clock_is_asked_only_where_the_answer_has_no_date(monkeypatch: pytest.MonkeyPatch) -> None:
    soon = format_datetime(datetime.fromtimestamp(time.time(), UTC) + timedelta(seconds=100), usegmt=True)
    assert 95 < (retry_after({"retry-after": soon}) or 0) <= 100
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert retry_after({"retry-after": soon}) == 86_400, "held to a day, whatever the clock says"
    assert retry_after({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT", "date": DATE}) == 30


@pytest.mark.parametrize("status", [200, 429])
async def test_a_models_pace_goes_by_what_each_answer_tells_good_or_not(status: int) -> None:
    paces = Paces()
    async with Wire(Answer(chat(), status=status, headers=OPENAI)) as wire:
        spec = ModelSpec(use="openai:tiny", base_url=f"{wire.url}/v1", patience=0)
        model = open_model(spec, paces=paces)
        with contextlib.suppress(CallFailed):
            await model(asking())
        await model.close()
    (pace,) = paces.all()
    facts = pace.facts()
    assert (facts.requests_limit, facts.tokens_limit, facts.throttled) == (600, 150_000, int(status == 429))


def test_what_a_recipe_states_of_a_server_holds_for_all_its_models() -> None:
    paces = Paces()
    url = "http://localhost:9/v1"
    stated = {"requests_per_minute": 90, "tokens_per_minute": 8000, "outage_patience": 5, "concurrency": 2}
    models = [
        open_model(ModelSpec(use="openai:tiny", base_url=url, **given), paces=paces)
        for given in (stated, {"options": {"seed": 1}})
    ]
    (pace,) = paces.all()
    facts = pace.facts()
    assert (facts.requests_limit, facts.tokens_limit, facts.ceiling, pace.outage_patience) == (90, 8000, 2, 5)
    assert [model.concurrency for model in models] == [2, 2]
    alone = open_model(ModelSpec(use="openai:tiny", base_url=url))
    assert alone.concurrency == 8, "a model that is opened by itself has a pace of its own"
