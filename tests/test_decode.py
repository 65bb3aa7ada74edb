"""How the next token is chosen and when an answer ends, compared with transformers' own rules."""

from __future__ import annotations

import math
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from local_kit import make_tokenizer
from transformers.generation import logits_process

from solon.calls import Sampling
from solon.digests import uniform
from solon.models import decode
from solon.models.decode import Row, Taste, answer_text, choose, end_tokens, settle

TASTES = [
    Taste(top_k=3), Taste(top_k=50), Taste(top_k=1000), Taste(top_p=0.5), Taste(top_p=0.95), Taste(min_p=0.3),
    Taste(0.6, 0.9, 20), Taste(1.3, 0.8, 5, 0.1), Taste(0.7, 0.99, 0, 0.02),
]  # fmt: skip


def row(taste: Taste, key: str = "k", tokens: list[int] | None = None) -> Row:
    return Row([1, 2], 100, key, taste, frozenset(), tokens=tokens or [])


def drawn(logits: torch.Tensor, taste: Taste, count: int) -> Counter[int]:
    """Return how often each token comes for `count` keys."""
    rows = [row(taste, f"key {n}") for n in range(count)]
    return Counter(choose(logits.expand(count, -1), rows))


def test_temperature_0_takes_the_likeliest_token() -> None:
    logits = torch.tensor([[0.1, 3.0, 2.9], [5.0, -1.0, 2.0]])
    assert choose(logits, [row(Taste(temperature=0)), row(Taste(temperature=0))]) == [1, 0]


def test_tokens_come_as_often_as_the_model_says() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0, 0.5]])
    count = 4000
    for temperature in (1.0, 0.5):
        chances = torch.softmax(logits[0] / temperature, -1)
        seen = drawn(logits, Taste(temperature=temperature), count)
        for token, chance in enumerate(chances.tolist()):
            spread = math.sqrt(count * chance * (1 - chance))
            assert abs(seen[token] - count * chance) < 4.5 * spread


def test_the_same_key_and_step_choose_the_same_token_in_any_company() -> None:
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(1))
    rows = [row(Taste(), f"key {n}", tokens=[3] * n) for n in range(6)]
    together = choose(logits, rows)
    assert together == [choose(logits[n : n + 1], [rows[n]])[0] for n in range(6)]
    assert together[::-1] == choose(logits.flip(0), rows[::-1])


def test_another_step_of_the_same_key_has_its_own_noise() -> None:
    flat = torch.zeros(1, 1000)
    tokens = {choose(flat, [row(Taste(), tokens=[0] * step)])[0] for step in range(20)}
    assert len(tokens) > 15


@pytest.mark.parametrize(
    ("taste", "warper"),
    [
        (Taste(top_k=3), logits_process.TopKLogitsWarper(3)),
        (Taste(top_p=0.7), logits_process.TopPLogitsWarper(0.7)),
        (Taste(min_p=0.2), logits_process.MinPLogitsWarper(0.2)),
    ],
)
def test_tokens_are_excluded_as_transformers_excludes_them(
    taste: Taste, warper: logits_process.LogitsProcessor
) -> None:
    logits = torch.tensor([[1.0, 0.2, 2.0, -1.0, 1.6, 0.9, -3.0, 0.0]])
    allowed = {int(token) for token in torch.isfinite(warper(torch.tensor([[0]]), logits))[0].nonzero()}
    assert 1 < len(allowed) < logits.shape[1]
    assert set(drawn(logits, taste, 600)) == allowed


@pytest.mark.parametrize("few", [1, 2, 7, 64])
@pytest.mark.parametrize("taste", TASTES, ids=str)
def test_looking_at_the_likeliest_tokens_alone_changes_no_choice(
    few: int, taste: Taste, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of them are looked at first, what a taste leaves is looked for until it is found."""
    logits = torch.randn(40, 64, generator=torch.Generator().manual_seed(3)) * 2
    logits[::2] = logits[::2].bfloat16().float()  # equal ones
    rows = [row(taste, f"key {n}") for n in range(40)]
    monkeypatch.setattr(decode, "FEW", few)
    assert choose(logits, rows) == [by_sorting(logits[n], rows[n]) for n in range(40)]


def by_sorting(logits: torch.Tensor, one: Row) -> int:
    """Return the token that the rules say, written down as plainly as can be."""
    taste = one.taste
    chances = torch.softmax(logits / taste.temperature, -1).double()
    ranked = sorted(range(len(chances)), key=lambda token: (-float(chances[token]), token))
    if taste.top_k:
        ranked = [token for token in ranked if chances[token] >= chances[ranked[min(taste.top_k, len(ranked)) - 1]]]
    total, before, kept = math.fsum(float(chances[token]) for token in ranked), 0.0, []
    for token in ranked:
        if not kept or before < taste.top_p * total or taste.top_p >= 1:
            kept.append(token)
        before += float(chances[token])
    kept = sorted(token for token in kept if chances[token] >= taste.min_p * chances[kept[0]])
    aim = uniform("solon.token/1", one.key, 0) * math.fsum(float(chances[token]) for token in kept)
    for token in kept:
        aim -= float(chances[token])
        if aim < 0:
            return token
    return kept[-1]


def test_a_vocabulary_is_summed_in_blocks_as_it_would_be_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(50, 130, generator=torch.Generator().manual_seed(4))
    logits[:, 40:90] = -math.inf  # whole blocks without a chance
    rows = [row(Taste(), f"key {n}") for n in range(50)]
    wanted = [by_sorting(logits[n], rows[n]) for n in range(50)]
    for block in (1, 16, 256):
        monkeypatch.setattr(decode, "BLOCK", block)
        assert choose(logits, rows) == wanted


def test_a_repetition_penalty_is_transformers_own() -> None:
    logits = torch.tensor([[1.0, 2.0, 1.9, -0.5]])
    told = logits_process.RepetitionPenaltyLogitsProcessor(1.5)(torch.tensor([[1, 2, 3]]), logits.clone())
    before = logits.clone()
    assert (
        choose(logits, [row(Taste(temperature=0, repetition_penalty=1.5), tokens=[3])]) == [int(told.argmax())] == [1]
    )
    heavy = Taste(temperature=0, repetition_penalty=3.0)
    assert choose(logits, [row(heavy, tokens=[3])]) == [0]
    assert torch.equal(logits, before), "the caller's logits were changed"


def test_logits_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(ArithmeticError, match="not finite"):
        choose(torch.tensor([[1.0, math.nan]]), [row(Taste())])


def test_a_token_without_a_chance_is_never_chosen() -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]])
    assert set(drawn(logits, Taste(), 300)) == {1, 3}


def test_what_a_call_leaves_open_the_model_decides() -> None:
    sampling = SimpleNamespace(do_sample=True, temperature=0.6, top_p=0.9, top_k=20, repetition_penalty=1.1)
    open_call = Sampling(temperature=None)
    assert Taste.of(open_call, {}, sampling) == Taste(0.6, 0.9, 20, 0.0, 1.1)
    assert Taste.of(Sampling(temperature=0.2, top_p=0.5), {"top_k": 3}, sampling) == Taste(0.2, 0.5, 3, 0.0, 1.1)
    plain = SimpleNamespace(do_sample=False, temperature=0.6, top_p=0.9)
    assert Taste.of(open_call, {}, plain).temperature == 0
    assert Taste.of(Sampling(), {"min_p": 0.1}, plain) == Taste(1.0, 1.0, 0, 0.1, 1.0)


def test_end_tokens_are_those_of_config_tokenizer_and_template() -> None:
    tokenizer = make_tokenizer()
    assert end_tokens(tokenizer, SimpleNamespace(eos_token_id=[7, 9])) == {7, 9, 0, 2}
    tokenizer.chat_template = None
    assert end_tokens(tokenizer, SimpleNamespace(eos_token_id=5)) == {5, 0}


def test_an_answer_is_cut_before_the_first_stop_string_even_across_tokens() -> None:
    tokenizer = make_tokenizer()
    words = Row([5], 100, "k", Taste(), frozenset({0}), stops=("of iron", "zzz"))
    for token in tokenizer("salt and rain of iron and wool")["input_ids"]:
        settle(words, token, tokenizer)
        if words.finish:
            break
    assert words.finish == "stop"
    assert answer_text(words, tokenizer) == "salt and rain "


def test_a_stop_string_is_found_within_letters_of_many_bytes() -> None:
    tokenizer = make_tokenizer()
    words = Row([5], 100, "k", Taste(), frozenset({0}), stops=("雨",))
    for token in tokenizer("é漢雨é")["input_ids"]:
        settle(words, token, tokenizer)
        if words.finish:
            break
    assert (words.finish, answer_text(words, tokenizer)) == ("stop", "é漢")


def test_the_last_allowed_token_ends_an_answer_by_length_and_an_end_token_by_stop() -> None:
    tokenizer = make_tokenizer()
    cut = Row([5], 2, "k", Taste(), frozenset({0}))
    for token in tokenizer("ab")["input_ids"]:
        settle(cut, token, tokenizer)
    assert (cut.finish, answer_text(cut, tokenizer)) == ("length", "ab")
    ended = Row([5], 2, "k", Taste(), frozenset({0}))
    settle(ended, 0, tokenizer)
    assert (ended.finish, answer_text(ended, tokenizer)) == ("stop", "")


def test_the_first_space_of_an_answer_is_kept() -> None:
    tokenizer = make_tokenizer()
    words = Row(tokenizer("the")["input_ids"], 9, "k", Taste(), frozenset(), tokens=tokenizer(" salt")["input_ids"])
    assert answer_text(words, tokenizer) == " salt"
