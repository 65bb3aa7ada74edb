"""The only question that can be asked of a model, and the only answer.

A model is `async (Call) -> Reply`, nothing more: providers, the ledger and the tests' fakes all have this shape.

The key of a Call is `"c1:" + tagged("solon.call/1", content)`, where content holds, under these names:

    model          the model's identity (who answers, not how fast)
    messages       [[role, content], ...]; one message with role "text" is a document to be continued
    temperature    float, or left out where the provider decides
    top_p          float, or left out
    max_tokens     int
    stop           list of str, left out when empty
    labels         list of str, left out when empty: the log-probability of each as the answer is asked back
    schema         a JSON schema, left out when None
    options        provider parameters of the recipe, left out when empty
    sample         int: 0 is the first answer to this question, 1 the second, ...
    attempt        int: 0, then 1, 2, ... where a stated policy asks again after an empty or cut answer

What does not change the answer is not in it: row, principle, story, time limits, retries, pace. Fields at their
empty value are left out, so that a field added later renames no old call. `max_tokens`, `sample` and `attempt` have
no empty value. Numbers that are equal are the same: temperature 1 is 1.0, and -0.0 is 0.0.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from json.encoder import encode_basestring
from typing import Any, Literal, Protocol

from solon.digests import canonical, tagged

__all__ = [
    "Ask",
    "Call",
    "Can",
    "Form",
    "Message",
    "Model",
    "Reply",
    "Sampling",
    "Usage",
    "key_of",
    "options_text",
]

TAG = "solon.call/1"

Form = Literal["chat", "text"]
Finish = Literal["stop", "length", "refusal"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `role` is "system", "user" or "assistant"; "text" marks a raw document for a base model."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn. None leaves a parameter to the provider; nothing else is ever dropped."""

    temperature: float | None = 1.0
    top_p: float | None = None
    max_tokens: int = 1024
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call:
    """One question to one model. `schema` and `options` are JSON texts, so that a Call can be hashed.

    Both are brought into canonical form: a provider writes properties in the schema's order, so calls of one key must
    not differ in it. Raises ValueError where they are not JSON.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    labels: tuple[str, ...] = ()
    schema: str | None = None
    options: str = "{}"
    sample: int = 0
    attempt: int = 0

    def __post_init__(self) -> None:
        if self.schema is not None:
            object.__setattr__(self, "schema", _canonical_text(self.schema))
        if self.options != "{}":
            object.__setattr__(self, "options", _canonical_text(self.options))

    def content(self) -> dict[str, Any]:
        """Return what the key is taken over (the table in this module's docstring)."""
        given = self.sampling
        content: dict[str, Any] = {
            "model": self.model,
            "messages": [[message.role, message.content] for message in self.messages],
            "max_tokens": given.max_tokens,
            "sample": self.sample,
            "attempt": self.attempt,
        }
        if given.temperature is not None:
            content["temperature"] = float(given.temperature) + 0.0
        if given.top_p is not None:
            content["top_p"] = float(given.top_p) + 0.0
        if given.stop:
            content["stop"] = list(given.stop)
        if self.labels:
            content["labels"] = list(self.labels)
        if self.schema is not None:
            content["schema"] = json.loads(self.schema)
        if self.options != "{}":
            content["options"] = json.loads(self.options)
        return content

    @cached_property
    def key(self) -> str:
        """Return the call's name in the ledger: "c1:" and 64 hex digits."""
        text = f'["{TAG}",{self._json}]'
        return "c1:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def to_json(self) -> str:
        """Return canonical(content()), which the key is taken over."""
        return self._json

    @cached_property
    def _json(self) -> str:
        # put together by hand, in the order of the names: half the time that a call costs apart from the wire went
        # into the general encoder (`tests/test_calls.py` holds the two equal)
        given, quoted = self.sampling, encode_basestring
        temperature, top_p = _number(given.temperature), _number(given.top_p)
        turns = ",".join([f"[{quoted(turn.role)},{quoted(turn.content)}]" for turn in self.messages])
        parts = [f'{{"attempt":{self.attempt:d}']
        if self.labels:
            parts.append(f'"labels":[{",".join(map(quoted, self.labels))}]')
        parts.append(f'"max_tokens":{given.max_tokens:d},"messages":[{turns}],"model":{quoted(self.model)}')
        if self.options != "{}":
            parts.append(f'"options":{self.options}')
        parts.append(f'"sample":{self.sample:d}')
        if self.schema is not None:
            parts.append(f'"schema":{self.schema}')
        if given.stop:
            parts.append(f'"stop":[{",".join(map(quoted, given.stop))}]')
        if temperature is not None:
            parts.append(f'"temperature":{temperature!r}')
        if top_p is not None:
            parts.append(f'"top_p":{top_p!r}')
        return ",".join(parts) + "}"

    @classmethod
    def from_json(cls, text: str) -> Call:
        """Return the Call that `to_json` wrote; its key is the same."""
        content = json.loads(text)
        return cls(
            model=content["model"],
            messages=tuple(Message(role, words) for role, words in content["messages"]),
            sampling=Sampling(
                temperature=content.get("temperature"),
                top_p=content.get("top_p"),
                max_tokens=content["max_tokens"],
                stop=tuple(content.get("stop", ())),
            ),
            labels=tuple(content.get("labels", ())),
            schema=canonical(content["schema"]) if "schema" in content else None,
            options=canonical(content.get("options", {})),
            sample=content["sample"],
            attempt=content["attempt"],
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counts them. `output` includes `thinking`; `cached` is the cheap part of `input`.

    written: the part of `input` that the provider wrote into its cache, which may cost more than plain input. It counts
             when a call is paid, and is not kept after that: no reply differs by it.
    """

    input: int = 0
    output: int = 0
    thinking: int = 0
    cached: int = 0
    written: int = field(default=0, compare=False)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.thinking + other.thinking,
            self.cached + other.cached,
            self.written + other.written,
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, as it is kept for good.

    text:      the answer without its thinking, exactly as the model wrote it (white space too)
    finish:    "stop"; "length" when it hit max_tokens; "refusal" when the provider declined or filtered
    thinking:  reasoning that came apart from the answer (`<think>` parts, reasoning fields)
    logprobs:  one natural logarithm a label of the call, None for a label beyond what the provider shows (or -inf,
               which JSON cannot say); None as a whole where the call asked for none, the provider gives none, or one
               is not a number
    model:     the name that the server reports for itself
    known:     True when it came from memory; told by the ledger, never stored
    """

    text: str
    finish: Finish = "stop"
    thinking: str = ""
    logprobs: tuple[float | None, ...] | None = None
    usage: Usage = Usage()
    model: str = ""
    known: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        # here and not in to_json: what is handed on first must equal what memory gives later
        if self.logprobs is not None:
            # not a number says nothing about the other labels either; -inf is a label beyond what is shown
            broken = any(log is not None and math.isnan(log) for log in self.logprobs)
            logs = tuple(float(log) if log is not None and math.isfinite(log) else None for log in self.logprobs)
            object.__setattr__(self, "logprobs", None if broken else logs)

    def to_json(self) -> str:
        used = self.usage
        return canonical(
            {
                "text": self.text,
                "finish": self.finish,
                "thinking": self.thinking,
                "logprobs": self.logprobs,
                "usage": {name: getattr(used, name) for name in used.__slots__ if name != "written"},
                "model": self.model,
            }
        )

    @classmethod
    def from_json(cls, text: str, *, known: bool = False) -> Reply:
        content = json.loads(text)
        logprobs = content["logprobs"]
        return cls(
            text=content["text"],
            finish=content["finish"],
            thinking=content["thinking"],
            logprobs=None if logprobs is None else tuple(logprobs),
            usage=Usage(**content["usage"]),
            model=content["model"],
            known=known,
        )

    def from_memory(self) -> Reply:
        """Return the same reply, as one that came from memory."""
        return Reply(self.text, self.finish, self.thinking, self.logprobs, self.usage, self.model, known=True)


Ask = Callable[[Call], Awaitable[Reply]]
"""The seam. Raises CallFailed (not remembered), Passing (may be retried) or Halt (the run must stop)."""


@dataclass(frozen=True, slots=True)
class Can:
    """What a model is able to do; None where only asking it can tell (`workshop` probes and records that)."""

    logprobs: bool | None = None
    schema: bool | None = None


class Model(Protocol):
    """A provider's side of the seam.

    identity:  what the ledger knows it by; two that may answer differently must differ in it
    name:      what people call it, for cards and tables
    form:      "chat" takes turns; "text" continues one document (a base model)
    can:       what it is able to do, as far as known without asking
    concurrency: how many calls it is glad to have at once

    It may also have `unusable`, a line that says why it cannot be asked although it can be named (a missing key).
    """

    @property
    def identity(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def form(self) -> Form: ...

    @property
    def can(self) -> Can: ...

    @property
    def concurrency(self) -> int: ...

    async def __call__(self, call: Call) -> Reply: ...

    async def close(self) -> None: ...


def key_of(content: Mapping[str, Any]) -> str:
    """Return the key of a call's content (`Call.content`, or the JSON object that `Call.to_json` wrote)."""
    return "c1:" + tagged(TAG, content)


def _number(value: float | None) -> float | None:
    """Return a float whose `repr` is JSON: -0.0 is 0.0. Raises ValueError for what JSON cannot say."""
    if value is None:
        return None
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is no number that a call can carry")
    return float(value) + 0.0


@lru_cache(maxsize=256)
def _canonical_text(text: str) -> str:
    """Return a JSON text in canonical form; a run has a few schemas and options, and thousands of calls with them."""
    return canonical(json.loads(text))


def options_text(options: Mapping[str, Any] | None) -> str:
    """Return provider options as the canonical JSON that a Call carries.

    Twice, since a YAML key may be a number (`logit_bias: {50256: -100}`) and sorts otherwise than its text.
    """
    return canonical(json.loads(canonical(dict(options or {}))))
