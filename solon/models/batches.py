"""Rows that are computed together: one forward pass of the model serves a whole batch.

Floating point adds in an order that depends on the shape of a batch, so the same question beside other neighbours can
get logits that differ in the last digits, and now and then another token. Two engines take two sides of that:

    Slots    steady (the default on a CPU, in `slots`). An answer is a function of its call alone, for one machine,
             thread count and batch size.
    Padded   free (the default on a GPU, which wants big even batches), here. Rows are padded on the left to the
             longest of them and decoded together; ended ones leave once they are half, and others join in their place.

A model that `Slots` cannot bear is decoded row by row (`Padded` of width one), which is as steady, and slower.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from solon.models.decode import Row, choose, settle

__all__ = ["Engine", "Padded", "Question", "forward", "logprobs"]


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

    def known(self, prompt: Sequence[int]) -> int:
        """Return how many tokens of a prompt need not be read, since they were before."""
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

    def score(self, questions: Sequence[Question]) -> list[list[float]]:
        """Return the natural log-probability of each label of each question."""
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
    """Rows padded on the left, decoded in step; once half of them have ended these leave, and others may join."""

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
        if not self._rows:
            return self.width
        live = len(self._live())
        return self.width - live if 2 * live <= self.width and self._bends() else 0

    def known(self, prompt: Sequence[int]) -> int:
        return 0

    @torch.inference_mode()
    def admit(self, rows: Sequence[Row]) -> None:
        inputs = left_padded([row.prompt for row in rows], self.model.device)
        cache = DynamicCache(config=self.model.config)
        logits = forward(self.model, past_key_values=cache, use_cache=True, **inputs)
        if self._rows:
            self._keep(self._live())
            self._join(cache, inputs["attention_mask"])
        else:
            self._places, self._cache, self._mask = [], cache, inputs["attention_mask"]
        self._places = [*self._places, *rows]
        self._rows = [*self._rows, *rows]
        self._settle(logits[:, -1], rows)

    @torch.inference_mode()
    def step(self) -> None:
        live = self._live()
        if 2 * len(live) <= len(self._places) and self._bends():
            self._keep(live)
        device = self.model.device
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._places), 1)], dim=1)
        tokens = torch.tensor([[row.tokens[-1]] for row in self._places], device=device)
        inputs = {"input_ids": tokens, "attention_mask": self._mask}
        positions = self._mask.sum(-1, keepdim=True) - 1
        logits = forward(self.model, position_ids=positions, past_key_values=self._cache, use_cache=True, **inputs)
        live = self._live()
        self._settle(logits[live, -1], [self._places[place] for place in live])

    def drop(self, row: Row) -> None:
        self._rows = [other for other in self._rows if other is not row]
        if not self._rows:
            self._places, self._cache, self._mask = [], None, None

    def score(self, questions: Sequence[Question]) -> list[list[float]]:
        return logprobs(self.model, questions, width=self.width)

    def _settle(self, logits: torch.Tensor, rows: Sequence[Row]) -> None:
        for row, token in zip(rows, choose(logits, rows), strict=True):
            settle(row, token, self.tokenizer)

    def _live(self) -> list[int]:
        """Return the places of the rows that go on."""
        admitted = set(map(id, self._rows))
        return [n for n, row in enumerate(self._places) if row.finish is None and id(row) in admitted]

    def _bends(self) -> bool:
        """Return whether rows can be taken out of the cache and put into it: it holds plain keys and values."""
        return all(type(layer) is DynamicLayer for layer in self._cache.layers)

    def _keep(self, live: list[int]) -> None:
        """Take all other rows out of the cache, and the columns that are padding for all that stay."""
        index = torch.tensor(live, device=self.model.device)
        self._mask = self._mask[index]
        self._places = [self._places[place] for place in live]
        first = int(self._mask.any(0).int().argmax()) if live else 0
        self._mask = self._mask[:, first:]
        for layer in self._cache.layers:
            layer.keys, layer.values = layer.keys[index, :, first:], layer.values[index, :, first:]

    def _join(self, cache: DynamicCache, mask: torch.Tensor) -> None:
        """Put the rows of another cache behind those of this one, the shorter ones padded on the left."""
        longest = max(self._mask.shape[1], mask.shape[1])
        self._mask = torch.cat([pad(it, (longest - it.shape[1], 0)) for it in (self._mask, mask)])
        for ours, theirs in zip(self._cache.layers, cache.layers, strict=True):
            for name in ("keys", "values"):
                both = [getattr(layer, name) for layer in (ours, theirs)]
                setattr(ours, name, torch.cat([pad(it, (0, 0, longest - it.shape[-2], 0)) for it in both]))


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
