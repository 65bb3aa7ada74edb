"""Steady batches: an answer is a function of its call alone, for one machine, thread count and batch size.

Prompts are read one at a time, in pieces that are cut by a fixed rule (`reading`); while answers are written, the
linear layers see always the same number of rows, idle ones included, and attention looks at each row by itself, in its
own length. Nothing is padded, rows come and go at any step, no row waits for the longest. Reading a prompt alone costs
a CPU little: it is busy with one row as with sixteen.

The model runs with an attention function of ours, registered where transformers wants such things; it hands each row
to the same kernel that transformers would have used. Whether a model's architecture bears that is tried out at load,
against its own plain forward pass (`bears_slots`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, Cache, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from solon.models.batches import Question, forward
from solon.models.decode import Row, Taste, choose, end_tokens, settle
from solon.models.reading import Reader

__all__ = ["Slots", "bears_slots"]

ATTENTION = "solon_rows"
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")  # how configurations say "mixture of experts"
BENT = {"softcap", "position_bias"}  # what makes attention another function
FIRST_ROOM = 256  # tokens of an answer for which a cache has room at first; it doubles when it is full


class Slots:
    """A fixed number of places; a row sits in one from its prompt to its end, whoever sits in the others."""

    def __init__(self, model: Any, tokenizer: Any, width: int, reader: Reader | None = None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.width = width
        self.steady = True
        self.reader = reader or Reader(model, end_tokens(tokenizer, model.generation_config))
        self._seats: list[Row | None] = [None] * width
        self._caches: list[DynamicCache | None] = [None] * width

    @property
    def rows(self) -> list[Row]:
        return [row for row in self._seats if row is not None]

    def free(self) -> int:
        return self._seats.count(None)

    def known(self, prompt: Sequence[int]) -> int:
        return self.reader.known(prompt)

    @torch.inference_mode()
    def admit(self, rows: Sequence[Row]) -> None:
        for row in rows:
            seat = self._seats.index(None)
            cache, logits = self.reader.read(row.prompt, min(row.room, FIRST_ROOM))
            settle(row, choose(logits, [row])[0], self.tokenizer)
            self._seats[seat], self._caches[seat] = row, cache

    def score(self, questions: Sequence[Question]) -> list[list[float]]:
        return [self.reader.logprobs(question) for question in questions]

    @torch.inference_mode()
    def step(self) -> None:
        logits = self._forward()
        live = [seat for seat, row in enumerate(self._seats) if row is not None and row.finish is None]
        rows = [row for row in self._seats if row is not None and row.finish is None]
        for row, token in zip(rows, choose(logits[live], rows), strict=True):
            settle(row, token, self.tokenizer)

    def drop(self, row: Row) -> None:
        if row in self._seats:
            seat = self._seats.index(row)
            self._seats[seat] = self._caches[seat] = None

    def _forward(self) -> torch.Tensor:
        """Return the logits [width, vocabulary] behind each seat's last token; an idle seat's mean nothing."""
        device = self.model.device
        tokens, positions = [], []
        for row in self._seats:
            tokens.append([row.tokens[-1] if row else 0])
            positions.append([len(row.prompt) + len(row.tokens) - 1 if row else 0])
        logits = forward(
            self.model,
            input_ids=torch.tensor(tokens, device=device),
            position_ids=torch.tensor(positions, device=device),
            # four dimensions: transformers passes it on untouched, and our attention needs none
            attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
            past_key_values=_Together(self._caches),
            use_cache=True,
        )
        return logits[:, -1]


class _Together(Cache):
    """The caches of all seats, seen by the model as one; an idle seat has none."""

    def __init__(self, caches: Sequence[DynamicCache | None]) -> None:
        super().__init__(layers=[])
        self.caches = caches

    def update(self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        """Return lists of keys and of values, one of each a seat: rows of unequal length make no tensor."""
        pairs = [
            None if cache is None else cache.update(keys, values, layer_idx)
            for cache, keys, values in zip(self.caches, key_states.split(1), value_states.split(1), strict=True)
        ]
        return [pair and pair[0] for pair in pairs], [pair and pair[1] for pair in pairs]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return max((cache.get_seq_length(layer_idx) for cache in self.caches if cache is not None), default=0)


def attend_rows(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Attend as transformers' sdpa does; where keys and values come as lists, each row for itself.

    query: [rows, heads, 1, width]; key, value: lists of [1, key heads, length of the row, width], None where idle.
    Returns [rows, 1, heads, width of a value], and None for the weights.
    """
    if not isinstance(key, list):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    heads = next(it.shape[1] for it in value if it is not None)
    width = next(it.shape[-1] for it in value if it is not None)
    together = query.new_zeros(query.shape[0], query.shape[1], 1, width)
    # what transformers' own function does for one token, without its questions at each of many rows and layers
    plain = {"scale": kwargs.get("scaling"), "enable_gqa": heads != query.shape[1]}
    for i, (keys, values) in enumerate(zip(key, value, strict=True)):
        if keys is None:
            continue
        if kwargs.keys() & BENT:
            row = sdpa_attention_forward(module, query[i : i + 1], keys, values, None, **kwargs)[0]
            together[i] = row[0].transpose(0, 1)
        else:
            together[i] = scaled_dot_product_attention(query[i : i + 1], keys, values, **plain)[0]
    return together.transpose(1, 2), None


def bears_slots(model: Any, tokenizer: Any) -> bool:
    """Return whether `Slots` computes for `model` what its plain forward pass does; if so, the model is set up for it.

    Two short prompts are tried, one token each. A wrong mask, position or cache changes logits by about their spread;
    the order of additions by a ten-thousandth of it (in 16 bits by a twentieth). A mixture of experts is not tried:
    how many rows an expert sees depends on who the neighbours are.
    """
    own = model.config._attn_implementation
    config = model.config.get_text_config()
    if own != "sdpa" or any(getattr(config, name, None) for name in EXPERTS):
        return False
    AttentionInterface.register(ATTENTION, attend_rows)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    prompts = [[(7 * n + 3) % config.vocab_size for n in range(length)] for length in (5, 11)]
    try:
        plain = torch.stack([_last_logits(model, [*prompt, 1]) for prompt in prompts])
        model.set_attn_implementation(ATTENTION)
        slots = Slots(model, tokenizer, 3, Reader(model, piece=4, least=1))
        for prompt in prompts:
            row = Row(prompt, 1, "", Taste(temperature=0), frozenset())
            slots.admit([row])
            row.tokens = [1]  # whatever was chosen: both ways are to read the same token
        with torch.inference_mode():
            tried = slots._forward()[:2].float()
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError):
        model.set_attn_implementation(own)
        return False  # an architecture with another idea of caches; the reason is of no use to anybody
    bound = (1e-2 if model.dtype == torch.float32 else 3e-1) * float(plain.std())
    if float((tried - plain).abs().max()) < bound:
        return True
    model.set_attn_implementation(own)
    return False


@torch.inference_mode()
def _last_logits(model: Any, ids: Sequence[int]) -> torch.Tensor:
    return forward(model, input_ids=torch.tensor([ids], device=model.device), use_cache=False)[0, -1].float()
