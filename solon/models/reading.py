"""How a prompt is read for steady batches: in pieces that begin at fixed places, so that what was read is reused.

What a piece of a prompt computes to, keys and values, depends on the tokens before it and on the shape of the pass that
reads it. Cut by the same rule in every prompt (where a turn ends, and after so many tokens), a piece is the same in all
prompts that begin alike, bit for bit, whether it is read or remembered: worked examples, a conversation that a critic,
a reviser and both orders of a judge begin with. So answers are as steady as before, and the common beginning is paid
once.

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

PIECE = 128  # tokens at most: the shorter they are the more is shared, but every pass reads all weights of the model
SHORT = 32  # tokens after which the end of a turn ends a piece
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
        keys, values = self._store  # `narrow` and not slices: once a token, row and layer
        keys.narrow(2, self.filled, filled - self.filled).copy_(key_states)
        values.narrow(2, self.filled, filled - self.filled).copy_(value_states)
        self.filled = filled
        self.keys, self.values = keys.narrow(2, 0, filled), values.narrow(2, 0, filled)
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
        ends: the tokens that end a turn.
        memory: most bytes of pieces; 0 remembers none.
        piece, short, least: as the constants of this module.
    """

    def __init__(
        self,
        model: Any,
        ends: frozenset[int] = frozenset(),
        *,
        memory: int = MEMORY,
        piece: int = PIECE,
        short: int = SHORT,
        least: int = LEAST,
    ) -> None:
        self.model, self.ends = model, ends
        self.memory, self.piece, self.short, self.least = memory, piece, short, least
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
        for end, name in self._cuts(prompt):
            if name not in self._pieces:
                break
            found = end
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
        cuts = list(self._cuts(prompt))
        known = self.known(prompt)
        for _, name in reversed([cut for cut in cuts if cut[0] <= known]):
            self._pieces.move_to_end(name)  # a beginning is never forgotten before what stands behind it
        start = 0
        for end, name in cuts:
            if end <= known:
                for layer, pair in zip(cache.layers, self._pieces[name], strict=True):
                    layer.update(*pair)
            else:
                # without the last layer: nobody asks what would follow here
                self.model.base_model(input_ids=self._ids(prompt[start:end]), past_key_values=cache, use_cache=True)
                self._remember(name, [layer.part(start, end) for layer in cache.layers])
            start = end
        logits = self._pass(prompt[start:], cache)
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
        return forward(self.model, input_ids=self._ids(ids), past_key_values=cache, use_cache=True)[:, -1]

    def _ids(self, ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor([list(ids)], device=self.model.device)

    def _cuts(self, prompt: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Yield (end, a name over all tokens up to it) of each piece of a prompt that is read by itself."""
        if not self.plain:
            return
        so_far, start = hashlib.blake2b(digest_size=16), 0
        for end in range(1, len(prompt) - self.least + 1):
            if end - start == self.piece or (prompt[end - 1] in self.ends and end - start >= self.short):
                so_far.update(array("q", prompt[start:end]).tobytes())
                yield end, so_far.copy().digest()
                start = end

    def _remember(self, name: bytes, parts: list[Pair]) -> None:
        size = sum(states.nbytes for pair in parts for states in pair)
        if size > self.memory or name in self._pieces:  # there, but not what stands before it
            return
        self._pieces[name] = [(keys.clone(), values.clone()) for keys, values in parts]
        self._held += size
        while self._held > self.memory:
            _, gone = self._pieces.popitem(last=False)
            self._held -= sum(states.nbytes for pair in gone for states in pair)
