"""How the next token is chosen, and when an answer ends.

Noise is not drawn from a stream but looked up: one uniform number u for each (call, step), a hash of the call's key
and the step, decides the token by inverse distribution function, over the vocabulary in token-id order. So the same
question gets the same answer whenever and beside whomever it is asked, as far as the logits are the same, and
`sample` 1 is another answer than `sample` 0, since it is another key. No seed, no generator state.

The distribution is the logits after, in this order: repetition penalty, temperature, top_k, top_p, min_p, as
transformers orders them. Sums run in float64: in float32 the tail of a vocabulary of 50,000 is lost.

An answer ends at one of the model's own end tokens, before one of its stop strings, or at its last allowed token.
Which rows are computed together is `batches`' affair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from solon.calls import Finish, Sampling
from solon.digests import uniform

__all__ = ["Row", "Taste", "answer_text", "choose", "end_tokens", "settle"]

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
    tokens:  what was chosen so far, the end token too
    finish:  set when it has ended
    """

    prompt: list[int]
    room: int
    key: str
    taste: Taste
    ends: frozenset[int]
    stops: tuple[str, ...] = ()
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
    if any(row.taste.repetition_penalty != 1.0 for row in rows):
        scores = scores.clone()
    for place, row in enumerate(rows):
        if row.taste.repetition_penalty != 1.0:
            seen = torch.tensor(sorted({*row.prompt, *row.tokens}), device=scores.device)
            met = scores[place, seen]
            penalty = row.taste.repetition_penalty
            scores[place, seen] = torch.where(met < 0, met * penalty, met / penalty)
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
    device = scores.device
    heat = torch.tensor([[row.taste.temperature] for row in rows], device=device)
    chances = torch.softmax(scores / heat, dim=-1)
    for place, row in enumerate(rows):
        if row.taste.top_k or row.taste.top_p < 1 or row.taste.min_p:
            chances[place] = _narrowed(chances[place], row.taste)
    below = chances.double().cumsum(-1)
    whole = below[:, -1:].contiguous()
    noise = [[uniform("solon.token/1", row.key, len(row.tokens))] for row in rows]
    aim = torch.tensor(noise, dtype=torch.float64, device=device) * whole
    # the first token whose sum lies beyond the aim; never one without a chance, were u rounded up to 1
    tokens = torch.minimum(torch.searchsorted(below, aim, right=True), torch.searchsorted(below, whole))
    return [int(token) for token in tokens.squeeze(1).tolist()]


def _narrowed(chances: torch.Tensor, taste: Taste) -> torch.Tensor:
    """Return the chances [vocabulary] with 0 for what top_k, top_p and min_p exclude; they need not sum to 1."""
    if 0 < taste.top_k < len(chances):
        chances = torch.where(chances < chances.topk(taste.top_k).values[-1], 0.0, chances)
    if taste.top_p < 1:
        ordered, order = chances.double().sort(descending=True, stable=True)
        before = ordered.cumsum(0) - ordered
        outside = before >= taste.top_p * ordered.sum()
        outside[0] = False
        chances = chances.clone()
        chances[order[outside]] = 0.0
    if taste.min_p:
        chances = torch.where(chances < taste.min_p * chances.max(), 0.0, chances)
    return chances


def settle(row: Row, token: int, tokenizer: Any) -> None:
    """Append `token` to the answer, and set `finish` if it ends there."""
    row.tokens.append(token)
    if token in row.ends or (row.stops and _stopped(row, tokenizer)):
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
