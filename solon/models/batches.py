"""Rows that are computed together: one forward pass of the model serves a whole batch.

Floating point adds in an order that depends on the shape of a batch, so the same question beside other neighbours can
get logits that differ in the last digits, and now and then another token. Two engines take two sides of that:

    Slots    steady (the default on a CPU). An answer is a function of its call alone, for one machine, thread count
             and batch size. Prompts are read one at a time, in their own length; while answers are written, the
             linear layers see always the same number of rows, idle ones included, and attention looks at each row
             by itself, in its own length. Nothing is padded, rows come and go at any step, no row waits for the
             longest. Reading a prompt alone costs a CPU little: it is busy with one row as with sixteen.
    Padded   free (the default on a GPU, which wants big even batches). Rows that wait are padded on the left to the
             longest of them, and decoded together until the last has ended.

For Slots the model runs with an attention function of ours, registered where transformers wants such things; it hands
each row to the same kernel that transformers would have used. Whether a model's architecture bears that is tried
out at load, against its own plain forward pass; one that does not is decoded row by row (`Padded` of width one), which
is as steady, and slower.

Left out: sharing the common beginning of prompts (a prompt read behind a remembered beginning has another shape,
so an answer would depend on what was asked before).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import AttentionInterface, AttentionMaskInterface, Cache, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from solon.models.decode import Row, Taste, choose, settle

__all__ = ["Engine", "Padded", "Question", "Slots", "bears_slots", "logprobs"]

ATTENTION = "solon_rows"
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")  # how configurations say "mixture of experts"
FIRST_ROOM = 256  # tokens of an answer for which a cache has room at first; it doubles when it is full


class Engine(Protocol):
    """What decodes rows. `width` is how many rows a batch has, `steady` whether neighbours can be felt."""

    model: Any
    width: int
    steady: bool

    @property
    def rows(self) -> list[Row]:
        """Return the rows that were admitted and not dropped."""
        ...

    def free(self) -> int:
        """Return how many rows may be admitted now."""
        ...

    def admit(self, rows: Sequence[Row]) -> None:
        """Read the prompts of `rows` and choose the first token of each."""
        ...

    def step(self) -> None:
        """Choose one more token for every admitted row that has not ended."""
        ...

    def drop(self, row: Row) -> None:
        """Forget a row, ended or not."""
        ...


def forward(model: Any, keep: int = 1, **inputs: Any) -> torch.Tensor:
    """Return the logits [rows, keep, vocabulary] of the last `keep` positions, asking only for what `model` takes."""
    takes = inspect.signature(model.forward).parameters
    if "logits_to_keep" in takes:
        inputs["logits_to_keep"] = keep
    if "position_ids" not in takes:
        inputs.pop("position_ids", None)
    if "past_key_values" in inputs and "past_key_values" not in takes:
        # Mamba and its kin: a state instead of a past, and no mask for a single new token
        inputs["cache_params"] = inputs.pop("past_key_values")
        if inputs["input_ids"].shape[1] == 1:
            inputs.pop("attention_mask", None)
    logits: torch.Tensor = model(**inputs).logits
    return logits[:, -keep:]


def left_padded(sequences: Sequence[Sequence[int]], device: Any) -> dict[str, torch.Tensor]:
    """Return input_ids, attention_mask and position_ids [rows, longest]; the padding is masked, its ids are 0."""
    longest = max(len(sequence) for sequence in sequences)
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, sequence in enumerate(sequences):
        ids[place, longest - len(sequence) :] = torch.tensor(sequence)
        mask[place, longest - len(sequence) :] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return {
        "input_ids": ids.to(device),
        "attention_mask": mask.to(device),
        "position_ids": positions.to(device),
    }


# ---------------------------------------------------------------------------------------------- free


class Padded:
    """Rows padded on the left, decoded in step until the last has ended; ended ones leave once they are half."""

    def __init__(self, model: Any, tokenizer: Any, width: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.width = width
        self.steady = width == 1
        self._rows: list[Row] = []
        self._places: list[Row] = []  # who sits where in the cache, dropped rows too
        self._cache: Any = None
        self._mask: Any = None

    @property
    def rows(self) -> list[Row]:
        return self._rows

    def free(self) -> int:
        return 0 if self._rows else self.width

    @torch.inference_mode()
    def admit(self, rows: Sequence[Row]) -> None:
        inputs = left_padded([row.prompt for row in rows], self.model.device)
        self._cache = DynamicCache(config=self.model.config)
        logits = forward(self.model, past_key_values=self._cache, use_cache=True, **inputs)
        self._places, self._rows = list(rows), list(rows)
        self._mask = inputs["attention_mask"]
        self._take(logits[:, -1])

    @torch.inference_mode()
    def step(self) -> None:
        self._thin_out()
        device = self.model.device
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._places), 1)], dim=1)
        tokens = torch.tensor([[row.tokens[-1]] for row in self._places], device=device)
        inputs = {"input_ids": tokens, "attention_mask": self._mask}
        positions = self._mask.sum(-1, keepdim=True) - 1
        logits = forward(self.model, position_ids=positions, past_key_values=self._cache, use_cache=True, **inputs)
        self._take(logits[:, -1])

    def drop(self, row: Row) -> None:
        self._rows = [other for other in self._rows if other is not row]
        if not self._rows:
            self._places, self._cache, self._mask = [], None, None

    def _take(self, logits: torch.Tensor) -> None:
        live = self._live()
        rows = [self._places[place] for place in live]
        for row, token in zip(rows, choose(logits[live], rows), strict=True):
            settle(row, token, self.tokenizer)

    def _live(self) -> list[int]:
        """Return the places of the rows that go on."""
        return [place for place, row in enumerate(self._places) if row in self._rows and row.finish is None]

    def _thin_out(self) -> None:
        """Take ended rows out of the cache once they are half of it."""
        live = self._live()
        if 2 * len(live) > len(self._places) or not all(isinstance(it, DynamicLayer) for it in self._cache.layers):
            return
        index = torch.tensor(live, device=self.model.device)
        self._cache.batch_select_indices(index)
        self._mask = self._mask[index]
        self._places = [self._places[place] for place in live]


# ---------------------------------------------------------------------------------------------- steady


class Slots:
    """A fixed number of places; a row sits in one from its prompt to its end, whoever sits in the others."""

    def __init__(self, model: Any, tokenizer: Any, width: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.width = width
        self.steady = True
        self._seats: list[Row | None] = [None] * width
        self._caches: list[DynamicCache | None] = [None] * width

    @property
    def rows(self) -> list[Row]:
        return [row for row in self._seats if row is not None]

    def free(self) -> int:
        return self._seats.count(None)

    @torch.inference_mode()
    def admit(self, rows: Sequence[Row]) -> None:
        for row in rows:
            seat = self._seats.index(None)
            cache = DynamicCache(config=self.model.config)
            room = len(row.prompt) + min(row.room, FIRST_ROOM)
            cache.layers = [RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
            prompt = torch.tensor([row.prompt], device=self.model.device)
            logits = forward(self.model, input_ids=prompt, past_key_values=cache, use_cache=True)
            settle(row, choose(logits[:, -1], [row])[0], self.tokenizer)
            self._seats[seat], self._caches[seat] = row, cache

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


class RoomyLayer(DynamicLayer):
    """One layer's keys and values of one row, with room to grow: transformers' own copies all of it at every token."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.filled = 0

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Append keys and values [1, heads, new, width]; return views of all so far [1, heads, filled, width]."""
        filled = self.filled + key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._store = (self._roomy(key_states), self._roomy(value_states))
        while filled > self.room:
            self.room *= 2
        if self.room > self._store[0].shape[-2]:
            grown = (self._roomy(key_states), self._roomy(value_states))
            for old, new in zip(self._store, grown, strict=True):
                new[:, :, : self.filled] = old[:, :, : self.filled]
            self._store = grown
        for store, new in zip(self._store, (key_states, value_states), strict=True):
            store[:, :, self.filled : filled] = new
        self.filled = filled
        self.keys, self.values = (store[:, :, :filled] for store in self._store)
        return self.keys, self.values

    def _roomy(self, states: Any) -> Any:
        return states.new_empty(*states.shape[:2], self.room, states.shape[-1])


class _Together(Cache):
    """The caches of all seats, seen by the model as one; an idle seat has none."""

    def __init__(self, caches: Sequence[DynamicCache | None]) -> None:
        super().__init__(layers=[])
        self.caches = caches

    def update(self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        """Return lists of keys and of values, one of each a seat: rows of unequal length make no tensor."""
        pairs = [
            None if cache is None else cache.update(key_states[i : i + 1], value_states[i : i + 1], layer_idx)
            for i, cache in enumerate(self.caches)
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
    width = next(it.shape[-1] for it in value if it is not None)
    together = query.new_zeros(query.shape[0], 1, query.shape[1], width)
    for i, (keys, values) in enumerate(zip(key, value, strict=True)):
        if keys is not None:
            together[i] = sdpa_attention_forward(module, query[i : i + 1], keys, values, None, **kwargs)[0][0]
    return together, None


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
        slots = Slots(model, tokenizer, 3)
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


# ---------------------------------------------------------------------------------------------- labels


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, and the labels whose log-probability as its continuation is asked, all as token ids."""

    prompt: tuple[int, ...]
    labels: tuple[tuple[int, ...], ...]


@torch.inference_mode()
def logprobs(model: Any, questions: Sequence[Question], *, width: int, fast: bool = True) -> list[list[float]]:
    """Return the natural log-probability of each label of each question, by teacher forcing.

    Args:
        width: sequences in one forward pass; 1 keeps a question's answer free of its neighbours.
        fast: read labels that are all single tokens from one pass over the prompt, instead of one a label.
    """
    sums = [[0.0] * len(question.labels) for question in questions]
    # a sequence, and what to read behind it: (positions from its end, token, question, label)
    reads: list[tuple[list[int], list[tuple[int, int, int, int]]]] = []
    for q, question in enumerate(questions):
        prompt, labels = list(question.prompt), question.labels
        if fast and all(len(label) == 1 for label in labels):
            reads.append((prompt, [(1, label[0], q, n) for n, label in enumerate(labels)]))
            continue
        for n, label in enumerate(labels):
            asked = [(len(label) - k, token, q, n) for k, token in enumerate(label)]
            reads.append(([*prompt, *label[:-1]], asked))
    reads.sort(key=lambda read: len(read[0]))  # neighbours of like length need little padding
    for start in range(0, len(reads), width):
        part = reads[start : start + width]
        keep = max(back for _, asked in part for back, *_ in asked)
        inputs = left_padded([ids for ids, _ in part], model.device)
        if len(part) == 1:
            del inputs["attention_mask"]  # all ones: without it the kernel need not read it
        scores = torch.log_softmax(forward(model, keep, use_cache=False, **inputs).double(), dim=-1)
        for place, (_, asked) in enumerate(part):
            for back, token, q, n in asked:
                sums[q][n] += float(scores[place, -back, token])
    return sums
