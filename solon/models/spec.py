"""What a recipe says about one model: a short name, or a small mapping. Frozen; unknown keys are refused."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["LongPrice", "ModelSpec", "Price"]

PROVIDERS = ("openai", "anthropic", "local", "scripted")
EMBEDDED = "smollm2"


class LongPrice(BaseModel):
    """What a call costs whose question is longer than the provider's usual price goes: all of that call.

    above:       tokens of question from which on it holds
    input, output, cached, cache_write: as in the price around it
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    above: int = Field(gt=0)
    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    cached: float | None = Field(None, ge=0, allow_inf_nan=False)
    cache_write: float | None = Field(None, ge=0, allow_inf_nan=False)


class Price(BaseModel):
    """US dollars for a million tokens.

    input, output: of questions and of answers
    cached:      of input that the provider had in its cache; left out, it costs as much as any
    cache_write: of input that the provider wrote into its cache; left out, it costs as much as any
    batch:       what a call of a batch job costs, as a share of the same call asked live (0.5 is half); left out, as
                 much
    long:        what calls with long questions cost, where that is more
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    cached: float | None = Field(None, ge=0, allow_inf_nan=False)
    cache_write: float | None = Field(None, ge=0, allow_inf_nan=False)
    batch: float | None = Field(None, ge=0, le=1)
    long: LongPrice | None = None


class ModelSpec(BaseModel):
    """One model.

    use:        "openai:<model>", "anthropic:<model>", "local:<hub id or folder or file.gguf>", "smollm2",
                "scripted:<file.py>:<function>" or "scripted:<replies.jsonl>"
    base_url:   an OpenAI-compatible (or Anthropic-compatible) server of your own
    key_env:    the environment variable that holds the key (never the key itself)
    identity:   overrides what the ledger knows the model by
    form:       "chat", or "text" for a base model that continues documents in the paper's turn markup
    options:    provider parameters that Solon does not know; sent as they are, part of every call's key
    price:      dollars a million tokens; left out, the price that is listed for this model at the provider's own
                address, or else unknown
    concurrency: most calls in flight at once (default: found out while asking, up to 1,024; for local models four
                batches)
    requests_per_minute, tokens_per_minute: limits of the server for this key, where they are known; what a server
                tells of them itself is gone by without
    timeout:    seconds for one attempt
    patience:   seconds over which a failing call is retried before its row is set aside
    outage_patience: seconds over which calls wait for a server that nobody gets an answer from
    cache:      Anthropic's protocol only: whether long beginnings that questions share are marked for the provider's
                cache: "auto" (at Anthropic's own address), "on" or "off"
    device:     local models only: "auto", "cpu" or "cuda"
    dtype:      local models only: "auto" (bfloat16 on a GPU that has it, else float32), or one by name
    batch_size: local models only: rows a batch
    context:    local models only: most tokens of prompt and answer together (default: the model's own)
    steady:     local models only: batches of one shape, so that an answer does not depend on its neighbours
                (default: on a CPU yes, on a GPU no)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    use: str
    base_url: str | None = None
    key_env: str | None = None
    identity: str | None = None
    form: Literal["chat", "text"] = "chat"
    options: dict[str, Any] = Field(default_factory=dict)
    price: Price | None = None
    concurrency: int | None = Field(None, ge=1)
    requests_per_minute: float | None = Field(None, gt=0, allow_inf_nan=False)
    tokens_per_minute: float | None = Field(None, gt=0, allow_inf_nan=False)
    timeout: float = Field(600, gt=0)
    patience: float = Field(600, ge=0)
    outage_patience: float = Field(3600, ge=0)
    cache: Literal["auto", "on", "off"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_size: int = Field(16, ge=1)
    context: int | None = Field(None, ge=64)
    steady: bool | None = None

    @field_validator("use")
    @classmethod
    def _known_provider(cls, use: str) -> str:
        provider, _, rest = use.partition(":")
        if use == EMBEDDED or (provider in PROVIDERS and rest):
            return use
        choices = ", ".join(f"{provider}:<...>" for provider in PROVIDERS)
        raise ValueError(f"unknown model {use!r}; write {EMBEDDED} or one of {choices}")

    @property
    def provider(self) -> str:
        """Return "openai", "anthropic", "local" or "scripted" (the embedded model is a local one)."""
        return "local" if self.use == EMBEDDED else self.use.partition(":")[0]

    @property
    def target(self) -> str:
        """Return what stands after the provider: a model name, a folder, a file."""
        return self.use if self.use == EMBEDDED else self.use.partition(":")[2]
