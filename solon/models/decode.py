"""How the next token is chosen, and when an answer ends.

Noise is not drawn from a stream but looked up: one uniform number u for each (call, step), a hash of the call's key
and the step, decides the token by inverse distribution function, over the vocabulary in token-id order. So the same
question gets the same answer whenever and beside whomever it is asked, as far as the logits are the same, and
`sample` 1 is another answer than `sample` 0, since it is another key. No seed, no generator state.

The distribution is the logits after, in this order: repetition penalty, what a schema allows, temperature, top_k,
top_p, min_p, as transformers orders them. Sums run in float64: in float32 the tail of a vocabulary of 50,000 is lost.

An answer ends at one of the model's own end tokens, before one of its stop strings, where its schema is fulfilled, or
at its last allowed token.
Which rows are computed together is `batches`' affair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from solon.calls import Finish, Sampling
from solon.digests import uniform
from solon.models.grammar import Grammar

__all__ = ["Row", "Taste", "answer_text", "choose", "end_tokens", "settle"]

BLOCK = 256  # tokens whose chances are summed before they are looked at one by one
FEW = 128  # likeliest tokens among which top_k, top_p and min_p mostly find all that they leave
END_MARKS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|end_of_turn|>", "<turn|>")
"""Ends of turn that models write though not all of them list it among their end tokens."""


@dataclass(frozen=True, slots=True)
class Taste:
    """How tokens are chosen. temperature 0 takes the likeliest; the other values at their default do nothing."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    @property
    def narrows(self) -> bool:
        """Return whether it excludes tokens."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0

    @classmethod
    def of(cls, sampling: Sampling, options: Mapping[str, Any], config: Any) -> Taste:
        """Return the taste of a call: what it says, then its options, then the model's own generation config.

        A temperature of None is the model's own: its temperature where it samples by default, else 0.
        """
        names = [part.name for part in fields(cls)]
        own = {name: getattr(config, name, None) for name in names}
        if not getattr(config, "do_sample", False):
            own = {"temperature": 0.0, "repetition_penalty": own["repetition_penalty"]}
        said = {"temperature": sampling.temperature, "top_p": sampling.top_p}
        values: dict[str, Any] = {}
        for layer in (own, options, said):
            values |= {name: layer[name] for name in names if layer.get(name) is not None}
        return cls(**values)


@dataclass(eq=False, slots=True)
class Row:
    """One answer in the making.

    prompt:  token ids of the prompt, at least one
    room:    most tokens that the answer may have, at least 1
    key:     the call's key: what decides the noise
    ends:    token ids that end the answer
    stops:   strings before which it ends
    grammar: what it must keep to, None where it is free
    tokens:  what was chosen so far, the end token too
    finish:  set when it has ended
    """

    prompt: list[int]
    room: int
    key: str
    taste: Taste
    ends: frozenset[int]
    stops: tuple[str, ...] = ()
    grammar: Grammar | None = None
    tokens: list[int] = field(default_factory=list)
    finish: Finish | None = None


def end_tokens(tokenizer: Any, config: Any) -> frozenset[int]:
    """Return the ids of all tokens that end a turn: of the generation config, the tokenizer, the chat template."""
    listed = getattr(config, "eos_token_id", None)
    ends = {listed} if isinstance(listed, int) else set(listed or ())
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
    known = tokenizer.get_vocab()
    ends |= {known[mark] for mark in END_MARKS if mark in template and mark in known}
    return frozenset(ends)


def choose(logits: torch.Tensor, rows: Sequence[Row]) -> list[int]:
    """Return the next token of each row.

    Args:
        logits: [rows, vocabulary], any float type.
        rows: in the same order; their `tokens` count the step.

    Raises ArithmeticError where the logits are not numbers.
    """
    scores = logits.float()
    if any(row.taste.repetition_penalty != 1.0 or row.grammar for row in rows):
        scores = scores.clone()
    for place, row in enumerate(rows):
        if row.taste.repetition_penalty != 1.0:
            seen = torch.tensor(sorted({*row.prompt, *row.tokens}), device=scores.device)
            met = scores[place, seen]
            penalty = row.taste.repetition_penalty
            scores[place, seen] = torch.where(met < 0, met * penalty, met / penalty)
        if row.grammar:
            scores[place, ~row.grammar.allowed().to(scores.device)] = -torch.inf
    best, likeliest = scores.max(-1)
    if not torch.isfinite(best).all():
        raise ArithmeticError("the model's logits are not finite; another dtype may help (float32, bfloat16)")
    chosen: list[int] = likeliest.tolist()
    warm = [place for place, row in enumerate(rows) if row.taste.temperature > 0]
    if warm:
        drawn = _draw(scores[warm], [rows[place] for place in warm])
        for place, token in zip(warm, drawn, strict=True):
            chosen[place] = token
    return chosen


def _draw(scores: torch.Tensor, rows: Sequence[Row]) -> list[int]:
    """Return the token of each row that its noise falls on; nothing here looks from one row to another."""
    device = scores.device
    heat = torch.tensor([[row.taste.temperature] for row in rows], device=device)
    chances = torch.softmax(scores / heat, dim=-1)
    noise = [[uniform("solon.token/1", row.key, len(row.tokens))] for row in rows]
    aim = torch.tensor(noise, dtype=torch.float64, device=device)
    whole = [place for place, row in enumerate(rows) if not row.taste.narrows]
    narrow = [place for place, row in enumerate(rows) if row.taste.narrows]
    tokens = [0] * len(rows)
    if whole:
        for place, token in zip(whole, _from_all(chances[whole], aim[whole]).tolist(), strict=True):
            tokens[place] = token
    if narrow:
        drawn, sure = _from_few(chances[narrow], aim[narrow], [rows[place].taste for place in narrow])
        for place, token, known in zip(narrow, drawn.tolist(), sure.tolist(), strict=True):
            tokens[place] = token if known else _from_narrowed(chances[place], aim[place], rows[place].taste)
    return tokens


def _from_all(chances: torch.Tensor, aim: torch.Tensor) -> torch.Tensor:
    """Return the token [rows] at which the sum of all before it and of itself passes `aim` [rows, 1] of the whole.

    In two looks, since summing a vocabulary in float64 is most of the work: first the block, then the token in it.
    """
    blocks = torch.nn.functional.pad(chances, (0, -chances.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
    block, left = _aimed(blocks.sum(-1, dtype=torch.float64), aim)
    within = blocks[torch.arange(len(chances), device=chances.device), block].double()
    below = within.cumsum(-1)
    token = torch.searchsorted(below, left.clamp(min=0.0), right=True)
    return block * BLOCK + torch.minimum(token, torch.searchsorted(below, below[:, -1:].contiguous())).squeeze(1)


def _aimed(weights: torch.Tensor, aim: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the place [rows] that `aim` [rows, 1] falls on, and how far into its weight [rows, 1] (all float64)."""
    below = weights.cumsum(-1)
    whole = below[:, -1:].contiguous()
    target = aim * whole
    # the first whose sum lies beyond the aim; never one without a chance, were u rounded up to 1
    place = torch.minimum(torch.searchsorted(below, target, right=True), torch.searchsorted(below, whole))
    before = torch.where(place > 0, below.gather(1, (place - 1).clamp(min=0)), 0.0)
    return place.squeeze(1), target - before


def _from_few(chances: torch.Tensor, aim: torch.Tensor, tastes: Sequence[Taste]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the token [rows] drawn from the likeliest FEW, and whether all that the taste leaves is among these.

    Sorting a vocabulary at every token took longer than a small model's whole forward pass.
    """
    few, device = min(FEW, chances.shape[1]), chances.device
    ids = chances.topk(few).indices.sort(dim=-1).values
    # stable: of equal chances the lower id goes first
    weights = chances.gather(1, ids).double()
    values, order = weights.sort(dim=-1, descending=True, stable=True)
    most = torch.tensor([[taste.top_k or chances.shape[1]] for taste in tastes], device=device)
    limits = most < chances.shape[1]
    left = ~limits | (values >= values.gather(1, (most - 1).clamp(max=few - 1)))
    total = torch.where(limits, (values * left).sum(-1, True), chances.sum(-1, keepdim=True, dtype=torch.float64))
    share = torch.tensor([[taste.top_p] for taste in tastes], dtype=torch.float64, device=device)
    before = (values * left).cumsum(-1) - values * left
    left &= (before < share * total) | (share >= 1)
    left[:, 0] = True
    floor = torch.tensor([[taste.min_p] for taste in tastes], dtype=torch.float64, device=device)
    left &= values >= floor * values[:, :1]
    least = torch.where(left, values, torch.inf).amin(-1)
    sure = ((least > values[:, -1]) & ~(limits & (most > few)).squeeze(1)) | (few == chances.shape[1])
    # back to the order of ids, which is that of the noise
    place, _ = _aimed(weights * torch.empty_like(left).scatter_(1, order, left), aim)
    return ids.gather(1, place.unsqueeze(1)).squeeze(1), sure


def _from_narrowed(chances: torch.Tensor, aim: torch.Tensor, taste: Taste) -> int:
    """Return what `_from_few` would, for chances [vocabulary] that spread over more tokens than it looks at."""
    place, _ = _aimed(_narrowed(chances, taste).double().unsqueeze(0), aim.unsqueeze(0))
    return int(place)


def _narrowed(chances: torch.Tensor, taste: Taste) -> torch.Tensor:
    """Return the chances [vocabulary] with 0 for what top_k, top_p and min_p exclude; they need not sum to 1."""
    if 0 < taste.top_k < len(chances):
        chances = torch.where(chances < chances.topk(taste.top_k).values[-1], 0.0, chances)
    if taste.top_p < 1:
        total = chances.sum(dtype=torch.float64)
        # all that lie below this weigh less than 1 - top_p together, so none of them is wanted: little is left to sort
        some = (chances >= (1 - taste.top_p) * total / len(chances)).nonzero().squeeze(1)
        ordered, order = chances[some].double().sort(dim=-1, descending=True, stable=True)
        inside = ordered.cumsum(0) - ordered < taste.top_p * total
        inside[0] = True
        kept = some[order[inside]]
        chances = torch.zeros_like(chances).index_copy(0, kept, chances[kept])
    if taste.min_p:
        chances = torch.where(chances < taste.min_p * chances.max(), 0.0, chances)
    return chances


def settle(row: Row, token: int, tokenizer: Any) -> None:
    """Append `token` to the answer, and set `finish` if it ends there."""
    row.tokens.append(token)
    if row.grammar:
        row.grammar.take(token)
    if token in row.ends or (row.stops and _stopped(row, tokenizer)) or (row.grammar and row.grammar.ended):
        row.finish = "stop"
    elif len(row.tokens) >= row.room:
        row.finish = "length"


def _stopped(row: Row, tokenizer: Any) -> bool:
    # a token has at least one byte, so the last few hold the whole of any stop string that ends just now;
    # decoding the whole answer at every step would be quadratic
    reach = max(len(stop.encode("utf-8")) for stop in row.stops) + 8
    tail = tokenizer.decode(row.tokens[-reach:], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    if not any(stop in tail for stop in row.stops):
        return False
    return _cut(_decoded(row, tokenizer), row.stops) is not None


def answer_text(row: Row, tokenizer: Any) -> str:
    """Return the answer as the model wrote it, without its end token, cut before the first stop string."""
    text = _decoded(row, tokenizer)
    cut = _cut(text, row.stops)
    return text if cut is None else text[:cut]


def _cut(text: str, stops: tuple[str, ...]) -> int | None:
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    return min(found) if found else None


def _decoded(row: Row, tokenizer: Any) -> str:
    tokens = row.tokens[:-1] if row.tokens and row.tokens[-1] in row.ends else row.tokens
    plain = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    # decoded behind the prompt's last token: alone, some tokenizers would drop the answer's first space
    head = tokenizer.decode(row.prompt[-1:], **plain)
    text = tokenizer.decode([*row.prompt[-1:], *tokens], **plain)
    return text.removeprefix(head) if text.startswith(head) else tokenizer.decode(tokens, **plain)
