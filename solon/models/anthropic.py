"""Anthropic, and every server that speaks its Messages protocol (LiteLLM's proxy, for one).

    anthropic:claude-opus-4-1                   at Anthropic, key in ANTHROPIC_API_KEY
    anthropic:tiny  with base_url: http://...   at a server of your own, no key unless key_env names one

The protocol gives no log-probabilities: a call with labels comes back with none, and the judge reads words instead.
It counts what it read from its cache apart from the rest of the input; `Usage.input` here is all of it, with what was
written to the cache (`Usage.written`) and read from it (`Usage.cached`). Long beginnings that questions share are
marked for its cache where that pays (`solon.models.prefixes`); the mark is no part of a call's key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

import anthropic

from solon.calls import Call, Can, Finish, Reply, Usage
from solon.errors import BadInput
from solon.models.carrier import stand_in
from solon.models.prefixes import Prefixes
from solon.models.server import Server, clean
from solon.models.spec import ModelSpec
from solon.models.thinking import split_thinking
from solon.models.wire import ServerModel, count, merged, timeouts, turns

__all__ = ["AnthropicModel"]

OWN_URL = "https://api.anthropic.com"
FINISH: dict[str, Finish] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}


class AnthropicModel(ServerModel):
    """One model behind Anthropic's protocol (`solon.calls.Model`).

    Raises BadInput for an address that cannot be used, and for form: text; the table in `solon.models.failures` says
    what a call raises.
    """

    sdk = anthropic
    sdk_error = anthropic.AnthropicError

    def __init__(self, spec: ModelSpec, **given: Any) -> None:
        if spec.form == "text":
            raise BadInput(f"{spec.use}: Anthropic's protocol has chat only; leave out form: text, or use openai:")
        server = Server.of(spec, own_url=OWN_URL)
        client = anthropic.AsyncAnthropic(
            api_key=server.key,
            base_url=server.url,
            timeout=timeouts(spec.timeout),
            max_retries=0,
            http_client=stand_in(),
        )
        super().__init__(spec, server, client, path="/v1/messages", **given)
        # who speaks this protocol elsewhere may not know the mark
        self._prefixes = Prefixes() if spec.cache == "on" or (spec.cache == "auto" and server.own) else None
        self.can = Can(logprobs=False, schema=True if server.own else None)

    def request(self, call: Call) -> dict[str, Any]:
        sampling = call.sampling
        system = [message.content for message in takewhile(lambda one: one.role == "system", call.messages)]
        body: dict[str, Any] = {
            "model": self.server.model,
            "max_tokens": sampling.max_tokens,
            "messages": turns(call.messages[len(system) :]),
        }
        if system:
            body["system"] = "\n\n".join(system)
        if sampling.temperature is not None:
            body["temperature"] = sampling.temperature
        if sampling.top_p is not None:
            body["top_p"] = sampling.top_p
        if sampling.stop:
            body["stop_sequences"] = list(sampling.stop)
        if call.schema is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": json.loads(call.schema)}}
        return merged(body, json.loads(call.options))

    async def _ask(self, call: Call, body: dict[str, Any] | None = None) -> Reply:
        body = body or self.request(call)
        prefix = self._prefixes.mark(body) if self._prefixes else None
        if self._prefixes is None or prefix is None:
            return await super()._ask(call, body)
        try:
            reply = await super()._ask(call, body)
        except BaseException:
            self._prefixes.failed(prefix)
            raise
        if reply.usage.input:
            self._prefixes.answered(prefix, reply.usage.cached)
        else:  # an error that stands for a refusal
            self._prefixes.failed(prefix)
        return reply

    def read(self, body: Mapping[str, Any], call: Call) -> Reply:
        blocks = body["content"]
        thinking, text = split_thinking("".join(clean(one["text"]) for one in blocks if one["type"] == "text"))
        thoughts = [clean(one["thinking"]).strip() for one in blocks if one["type"] == "thinking"]
        return Reply(
            text=text,
            finish=FINISH.get(body.get("stop_reason") or "", "stop"),
            thinking="\n\n".join(part for part in (*thoughts, thinking) if part),
            usage=usage_of(body.get("usage") or {}),
            model=clean(body.get("model")),
        )


def usage_of(usage: Mapping[str, Any]) -> Usage:
    cached, written = (count(usage.get(f"cache_{how}_input_tokens")) for how in ("read", "creation"))
    inside = usage.get("output_tokens_details") or {}
    return Usage(
        input=count(usage.get("input_tokens")) + written + cached,
        output=count(usage.get("output_tokens")),
        thinking=count(inside.get("thinking_tokens")),
        cached=cached,
        written=written,
    )
