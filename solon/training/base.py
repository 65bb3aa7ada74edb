"""The model that training starts from: looked at before it is loaded, so that what cannot work is said in a second.

Its size decides our defaults, its context bounds `max_length`, its chat template turns messages into tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solon.complaints import words_of
from solon.errors import BadInput
from solon.models import weights
from solon.models.spec import EMBEDDED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from solon.training.job import Job
    from solon.training.views import View

__all__ = ["Base", "device", "introduce", "open_base"]

_NOT_FOR_TEXT = ("ForSequenceClassification", "ForTokenClassification", "ForMaskedLM", "ForQuestionAnswering")


@dataclass(frozen=True)
class Base:
    """A model to start from.

    path:       folder or hub id, as `from_pretrained` takes it
    parameters: how many weights
    positions:  tokens of context
    device:     "cpu", "cuda" or "mps", where training will happen
    tokenizer:  with a chat template where the rows are messages, and with a padding token
    """

    path: str
    parameters: int
    positions: int
    device: str
    tokenizer: PreTrainedTokenizerBase


def open_base(job: Job, row: dict[str, Any]) -> Base:
    """Return the job's model, seen through its config and tokenizer; no weight is read.

    row: one row to train on; says whether the model needs a chat template

    Raises:
        BadInput: no such model, a LoRA adapter, the wrong kind of model, no chat template.
    """
    import transformers
    from trl import is_conversational

    path = _resolved(job.model)
    given = {name: each.value for name, each in job.given.items()}
    trusted = bool(given.get("trust_remote_code"))
    kwargs = given.get("model_init_kwargs")
    extra = {"revision": kwargs["revision"]} if isinstance(kwargs, dict) and "revision" in kwargs else {}
    try:
        config = transformers.AutoConfig.from_pretrained(path, trust_remote_code=trusted, **extra)
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, trust_remote_code=trusted, **extra)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise BadInput(
            f"--model {job.model}: cannot be opened ({words_of(error)}); name a folder or a hub id"
        ) from error
    parameters = _count(job, config, trusted)
    if is_conversational(row) and not tokenizer.chat_template and "chat_template_path" not in job.given:
        own = "" if job.task == "dpo" else ", or name a model to take one from: --set chat_template_path=..."
        raise BadInput(
            f"--model {job.model}: has no chat template, and the rows are messages; take its instruction-tuned version"
            + (own or ", or train sft first with --set chat_template_path=...")
        )
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise BadInput(
                f"--model {job.model}: its tokenizer has neither a padding nor an end token; add a pad_token"
            )
        job.say(f"{job.model} has no padding token; its end token {tokenizer.eos_token!r} pads")
        tokenizer.pad_token = tokenizer.eos_token
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None) or 1 << 30
    return Base(path, parameters, positions, device(), tokenizer)


def introduce(job: Job, base: Base, view: View) -> None:
    """Say what is about to be trained on what."""
    many = base.parameters
    size = f"{many / 1e9:.1f} billion" if many >= 1e9 else f"{many / 1e6:.1f} million" if many >= 1e6 else f"{many:,}"
    how = "a LoRA adapter" if job.lora else "all weights"
    test = f", {view.test_rows:,} to test" if view.test_rows else ", none to test"
    job.say(
        f"{job.task}: {job.model} ({size} parameters, {how}) on {base.device}; "
        f"{len(view.train):,} rows of the {view.name} view to train on{test}"
    )


def device() -> str:
    """Return where torch trains on this machine: "cuda", "mps" or "cpu"."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _resolved(model: str) -> str:
    """Return the folder or hub id behind what the user wrote."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
            raise BadInput(
                f"--model {model}: is a LoRA adapter; merge it into its base first: python -c "
                f"\"from solon.training import merge; merge('{model}', '{model}-merged')\""
            )
        return str(folder)
    if model == EMBEDDED or folder.is_file():
        return str(weights.resolve(model).path)
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise BadInput(f"--model {model}: no such folder")
    # a hub id stays one: a LoRA adapter names its base by it, and `revision` is then read
    return model


def _count(job: Job, config: Any, trusted: bool) -> int:
    """Return the number of weights, by building the model without them. Raises BadInput for the wrong kind."""
    import transformers
    from accelerate import init_empty_weights

    named = (config.architectures or ["?"])[0]
    reward = job.task == "reward"
    kind = transformers.AutoModelForSequenceClassification if reward else transformers.AutoModelForCausalLM
    if not reward and (named.endswith(_NOT_FOR_TEXT) or config.is_encoder_decoder):
        raise BadInput(f"--model {job.model}: is a {named}, and {job.task} trains a causal language model; take one")
    try:
        with init_empty_weights():
            model = kind.from_config(config, trust_remote_code=trusted)
        # outside, where a shared weight stays one
        model.tie_weights()
    except (ValueError, ImportError, AttributeError) as error:
        raise BadInput(
            f"--model {job.model}: is a {named}, which {job.task} cannot train ({words_of(error)})"
        ) from error
    return sum(weight.numel() for weight in model.parameters())
