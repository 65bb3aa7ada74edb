"""OpenAI, and every server that speaks its chat or completions protocol: vLLM, llama.cpp, Ollama, LiteLLM, ...

    openai:gpt-4.1                              at OpenAI, key in OPENAI_API_KEY
    openai:tiny  with base_url: http://...      at a server of your own, no key unless key_env names one

Chat completions, not Responses, because compatible servers have the former; a model of `form: text` continues a
document through /completions. The answer's length goes out as `max_completion_tokens` at OpenAI and Azure, and as
`max_tokens` elsewhere, which is what compatible servers know.

Labels. A call with labels asks for the twenty likeliest tokens (five of a completion at OpenAI) at each of the
first five positions, at temperature 0, so that what is read is no throw of dice. The probability that the answer is
a label is what the first position gives it, plus, where the model first writes decoration such as "(" or "**",
that decoration's probability times what the next position gives it, and so on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import openai

from solon.calls import Call, Finish, Reply, Usage
from solon.models.carrier import stand_in
from solon.models.server import Server, clean
from solon.models.spec import ModelSpec
from solon.models.thinking import split_thinking
from solon.models.wire import ServerModel, count, merged, timeouts, turns

__all__ = ["OpenAIModel", "label_logprobs"]

OWN_URL = "https://api.openai.com/v1"
NEWER_HOSTS = ("api.openai.com", ".azure.com")
LABEL_POSITIONS = 5
SHOWN = 20
SHOWN_IN_TEXT = 5
DECORATION = " \t\r\n()[]{}*_\"'`:.<>▁ĠĊ"
FINISH: dict[str, Finish] = {"length": "length", "content_filter": "refusal"}

Position = tuple[str, float, Sequence[tuple[str, float]]]
"""A token that was written, its log-probability, and the likeliest tokens in its place with theirs."""


class OpenAIModel(ServerModel):
    """One model behind OpenAI's protocol (`solon.calls.Model`).

    Raises BadInput for an address that cannot be used; the table in `solon.models.failures` says what a call raises.
    """

    sdk = openai
    sdk_error = openai.OpenAIError

    def __init__(self, spec: ModelSpec, **given: Any) -> None:
        server = Server.of(spec, own_url=OWN_URL)
        client = openai.AsyncOpenAI(
            api_key=server.key,
            base_url=server.url,
            timeout=timeouts(spec.timeout),
            max_retries=0,
            http_client=stand_in(),
        )
        path = "/completions" if spec.form == "text" else "/chat/completions"
        super().__init__(spec, server, client, path=path, **given)
        host = server.url.split("/")[2].partition(":")[0]
        self._length = "max_completion_tokens" if host.endswith(NEWER_HOSTS) else "max_tokens"

    def request(self, call: Call) -> dict[str, Any]:
        sampling = call.sampling
        body: dict[str, Any] = {"model": self.server.model}
        if self.form == "text":
            length = "max_tokens"
            body["prompt"] = document(call)
        else:
            length = self._length
            body["messages"] = turns(call.messages)
        body[length] = sampling.max_tokens
        if sampling.temperature is not None:
            body["temperature"] = sampling.temperature
        if sampling.top_p is not None:
            body["top_p"] = sampling.top_p
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if call.schema is not None:
            schema = {"name": "answer", "strict": True, "schema": json.loads(call.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if call.labels:
            shown = {"logprobs": True, "top_logprobs": SHOWN}
            if self.form == "text":
                shown = {"logprobs": SHOWN_IN_TEXT if self.server.own else SHOWN}
            body |= {length: max(LABEL_POSITIONS, sampling.max_tokens), "temperature": 0.0, **shown}
        return merged(body, json.loads(call.options))

    def read(self, body: Mapping[str, Any], call: Call) -> Reply:
        choice = body["choices"][0]
        finish = FINISH.get(choice.get("finish_reason") or "", "stop")
        if self.form == "text":
            thinking, text = "", clean(choice["text"])
        else:
            message = choice["message"]
            thinking, text = split_thinking(clean(message.get("content")))
            apart = message.get("reasoning_content") or message.get("reasoning")
            if isinstance(apart, str):
                thinking = "\n\n".join(part for part in (clean(apart).strip(), thinking) if part)
            if message.get("refusal"):
                text, finish = clean(message["refusal"]), "refusal"
        shown = positions(choice.get("logprobs")) if call.labels else []
        return Reply(
            text=text,
            finish=finish,
            thinking=thinking,
            logprobs=label_logprobs(shown, call.labels) if shown else None,
            usage=usage_of(body.get("usage") or {}),
            model=clean(body.get("model")),
        )


def document(call: Call) -> str:
    """Return the one document that `call` asks to continue. Raises ValueError where it holds turns."""
    if [message.role for message in call.messages] != ["text"]:
        raise ValueError("a conversation was put to a base model; its role in the recipe needs form: chat")
    return call.messages[0].content


def usage_of(usage: Mapping[str, Any]) -> Usage:
    inside = usage.get("completion_tokens_details") or {}
    before = usage.get("prompt_tokens_details") or {}
    return Usage(
        input=count(usage.get("prompt_tokens")),
        output=count(usage.get("completion_tokens")),
        thinking=count(inside.get("reasoning_tokens")),
        cached=count(before.get("cached_tokens")),
        written=count(before.get("cache_write_tokens")),
    )


def positions(logprobs: Any) -> list[Position]:
    """Return what a server shows of its first tokens, in either protocol's form; empty where it shows nothing."""
    if not isinstance(logprobs, Mapping):
        return []
    if isinstance(logprobs.get("content"), list):
        return [
            (
                one["token"],
                one["logprob"],
                [(top["token"], top["logprob"]) for top in one.get("top_logprobs") or []],
            )
            for one in logprobs["content"]
        ]
    tokens, chosen, tops = (logprobs.get(name) or [] for name in ("tokens", "token_logprobs", "top_logprobs"))
    return [
        (token, logprob, list((top or {}).items())) for token, logprob, top in zip(tokens, chosen, tops, strict=False)
    ]


def label_logprobs(shown: Iterable[Position], labels: Sequence[str]) -> tuple[float | None, ...]:
    """Return the natural logarithm of the probability that the answer is each label; None for one never shown.

    A token stands for a label when they are equal but for decoration, as "(A", " A" and "**A" are for "A"; where no
    label is shown in its own case, upper and lower case count as the same.
    """
    wanted = [label.strip(DECORATION) or label for label in labels]
    mass: list[list[float]] = [[] for _ in labels]
    path = 0.0
    for token, logprob, tops in shown:
        # the token itself may be missing from a short list of likeliest ones
        seen = tops if any(top == token for top, _ in tops) else [*tops, (token, logprob)]
        table = [(top.strip(DECORATION), path + value) for top, value in seen if math.isfinite(path + value)]
        for fold in (str, str.casefold):
            found = [[value for top, value in table if fold(top) == fold(label)] for label in wanted]
            if any(found):
                break
        for values, more in zip(mass, found, strict=True):
            values.extend(more)
        path += logprob
        if token.strip(DECORATION) or not math.isfinite(path):
            break
    return tuple(_logsumexp(values) if values else None for values in mass)


def _logsumexp(values: Sequence[float]) -> float:
    most = max(values)
    # rounding may carry a sum of probabilities beyond one
    return min(0.0, most + math.log(sum(math.exp(value - most) for value in values)))
