"""A schema that is kept while a local model writes: which tokens may come next (by llguidance, if it is installed).

    grammars = Grammars(tokenizer, vocabulary)
    grammar = grammars.of(call.schema)      one a row
    grammar.allowed()                       a mask over the vocabulary, for the next token
    grammar.take(token)                     ... which was chosen
    grammar.ended                           the JSON is whole: nothing may follow

White space stands where `json.dumps` puts it and nowhere else: a model that is unsure of its next word would otherwise
go on with blanks for ever.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy
import torch

from solon.errors import CallFailed

__all__ = ["Grammar", "Grammars"]

SPACING: Any = {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}


class Grammars:
    """The grammars of one model, each compiled once.

    Args:
        vocabulary: how many logits the model has.
        ends: the tokens that end its answers.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, ends: Iterable[int]) -> None:
        self._tokenizer, self._vocabulary, self._ends = tokenizer, vocabulary, sorted(ends)
        self._compiled: dict[str, Any] = {}

    def of(self, schema: str) -> Grammar:
        """Return a fresh grammar of a JSON schema. Raises CallFailed where it cannot be kept."""
        if schema not in self._compiled:
            from llguidance import LLMatcher

            made = LLMatcher.grammar_from_json_schema(schema, overrides=SPACING)
            if problem := LLMatcher.validate_grammar(made, self._tokens):
                line = " ".join(problem.split())
                raise CallFailed("rejected_call", f"this schema cannot be kept by a local model: {line}")
            self._compiled[schema] = LLMatcher(self._tokens, made)
        return Grammar(self._compiled[schema].deep_copy(), self._vocabulary)

    @functools.cached_property
    def _tokens(self) -> Any:
        # reads the whole vocabulary: a quarter of a second, and only where a schema is asked for
        from llguidance.hf import from_tokenizer

        return from_tokenizer(self._tokenizer, n_vocab=self._vocabulary, eos_token=self._ends)


class Grammar:
    """How far one answer has come in its schema."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary

    @property
    def ended(self) -> bool:
        return bool(self._matcher.is_stopped())

    def allowed(self) -> torch.Tensor:
        """Return which tokens may come next [vocabulary], True for those that may."""
        bits = numpy.frombuffer(self._matcher.compute_bitmask(), dtype=numpy.uint8)
        return torch.from_numpy(numpy.unpackbits(bits, count=self._vocabulary, bitorder="little").astype(bool))

    def take(self, token: int) -> None:
        """Go on by one token. Raises RuntimeError where the schema does not allow it, or is too deep for the parser."""
        if not self._matcher.consume_token(token):
            raise RuntimeError(f"a schema was not kept: {self._matcher.get_error()}")
