"""How a prompt is read for steady batches: in pieces that begin at fixed places, so that what was read is reused.

What a piece of a prompt computes to, keys and values, depends on the tokens before it and on the shape of the pass that
reads it. Cut at the same places in every prompt, a piece is the same in all prompts that begin alike, bit for bit,
whether it is read or remembered: worked examples, a conversation that a critic, a reviser and both orders of a judge
begin with. So answers are as steady as before, and the common beginning is paid once.

The last prompt is remembered as a whole: candidates are asked for by one prompt, one after the other. Several labels
of a question are read behind one reading of its prompt.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from solon.models.batches import Question, forward, logprobs

__all__ = ["Reader", "RoomyLayer"]

PIECE = 64  # tokens: shorter ones cost a CPU more than they save, since every pass reads all weights
LEAST = 16  # tokens that must follow a piece; fewer are read together with it
MEMORY = 512 << 20  # bytes of keys and values that are remembered

Pair = tuple[torch.Tensor, torch.Tensor]


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

    def part(self, start: int, end: int) -> Pair:
        """Return views of the keys and values of some positions."""
        return self._store[0][:, :, start:end], self._store[1][:, :, start:end]

    def _roomy(self, states: Any) -> Any:
        return states.new_empty(*states.shape[:2], self.room, states.shape[-1])


@dataclass(frozen=True, slots=True)
class _Whole:
    """A prompt that was read: its tokens, the logits [1, vocabulary] behind it, and a cache that begins with it."""

    prompt: tuple[int, ...]
    logits: torch.Tensor
    cache: DynamicCache


class Reader:
    """Reads prompts for one model, and remembers their pieces, the least recently used ones going first.

    Args:
        memory: most bytes of pieces; 0 remembers none.
        piece, least: as the constants of this module.
    """

    def __init__(self, model: Any, *, memory: int = MEMORY, piece: int = PIECE, least: int = LEAST) -> None:
        self.model = model
        self.memory, self.piece, self.least = memory, piece, least
        self._pieces: OrderedDict[bytes, list[Pair]] = OrderedDict()
        self._held = 0
        self._last: _Whole | None = None
        # another idea of a past (a sliding window) is read in one piece
        self.plain = all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)

    def known(self, prompt: Sequence[int]) -> int:
        """Return how many tokens of a prompt are remembered."""
        if self._last and len(self._last.prompt) == len(prompt) and self._last.prompt == tuple(prompt):
            return len(prompt)
        found = 0
        for name in self._names(prompt):
            if name not in self._pieces:
                break
            found += self.piece
        return found

    @torch.inference_mode()
    def read(self, prompt: Sequence[int], room: int) -> tuple[DynamicCache, torch.Tensor]:
        """Return a prompt's cache, with room for `room` tokens more, and the logits [1, vocabulary] behind it."""
        cache = DynamicCache(config=self.model.config)
        if not self.plain:
            return cache, self._pass(prompt, cache)
        cache.layers = [RoomyLayer(len(prompt) + room) for _ in cache.layers]
        if self._last and self._last.prompt == tuple(prompt):
            for ours, theirs in zip(cache.layers, self._last.cache.layers, strict=True):
                ours.update(*theirs.part(0, len(prompt)))
            return cache, self._last.logits
        names = list(self._names(prompt))
        known = self.known(prompt) // self.piece
        for name in reversed(names[:known]):
            self._pieces.move_to_end(name)  # a beginning is never forgotten before what stands behind it
        for name in names[:known]:
            for layer, pair in zip(cache.layers, self._pieces[name], strict=True):
                layer.update(*pair)
        for place, name in enumerate(names[known:], start=known):
            start, end = place * self.piece, (place + 1) * self.piece
            self._pass(prompt[start:end], cache)
            self._remember(name, [layer.part(start, end) for layer in cache.layers])
        logits = self._pass(prompt[len(names) * self.piece :], cache)
        self._last = _Whole(tuple(prompt), logits, cache)
        return cache, logits

    @torch.inference_mode()
    def logprobs(self, question: Question) -> list[float]:
        """Return the natural log-probability of each label behind the prompt, which is read once."""
        if not self.plain:
            return logprobs(self.model, [question], width=1)[0]
        cache, logits = self.read(question.prompt, 0)
        first = torch.log_softmax(logits[0].double(), dim=-1)
        sums = [float(first[label[0]]) for label in question.labels]
        longest = max(map(len, question.labels)) - 1
        if longest == 0:
            return sums
        labels = [n for n, label in enumerate(question.labels) if len(label) > 1]
        # padded on the right, where no token looks
        ids = [[*question.labels[n][:-1], *[0] * (longest + 1 - len(question.labels[n]))] for n in labels]
        behind = DynamicCache()
        for place, layer in enumerate(cache.layers):
            keys, values = (states.expand(len(labels), -1, -1, -1) for states in layer.part(0, len(question.prompt)))
            behind.update(keys, values, place)
        inputs = torch.tensor(ids, device=self.model.device)
        further = forward(self.model, longest, input_ids=inputs, past_key_values=behind, use_cache=True)
        scores = torch.log_softmax(further.double(), dim=-1)
        for row, n in enumerate(labels):
            sums[n] += sum(float(scores[row, k, token]) for k, token in enumerate(question.labels[n][1:]))
        return sums

    def _pass(self, ids: Sequence[int], cache: DynamicCache) -> torch.Tensor:
        inputs = torch.tensor([list(ids)], device=self.model.device)
        return forward(self.model, input_ids=inputs, past_key_values=cache, use_cache=True)[:, -1]

    def _names(self, prompt: Sequence[int]) -> Iterator[bytes]:
        """Yield a name for each piece of a prompt that is read by itself, over all tokens up to its end."""
        if not self.plain:
            return
        so_far = hashlib.blake2b(digest_size=16)
        for start in range(0, len(prompt) - self.piece - self.least + 1, self.piece):
            so_far.update(array("q", prompt[start : start + self.piece]).tobytes())
            yield so_far.digest()

    def _remember(self, name: bytes, parts: list[Pair]) -> None:
        size = sum(states.nbytes for pair in parts for states in pair)
        if size > self.memory:
            return
        self._pieces[name] = [(keys.clone(), values.clone()) for keys, values in parts]
        self._held += size
        while self._held > self.memory:
            _, gone = self._pieces.popitem(last=False)
            self._held -= sum(states.nbytes for pair in gone for states in pair)
