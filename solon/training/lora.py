"""LoRA: train small matrices beside frozen weights, and, once done, fold them into the weights.

solon train dpo runs/latest --lora         saves an adapter: a few MB, loaded on top of its base
merge("runs/latest/models/dpo-x-lora", "dpo-x")      a model of its own, for serving or for the next training
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solon.complaints import words_of
from solon.errors import BadInput, StorageError
from solon.training.options import LoraOptions

if TYPE_CHECKING:
    from solon.training.job import Job

__all__ = ["merge", "peft_config"]


def peft_config(job: Job) -> Any:
    """Return peft's LoraConfig for this job, None without `--lora`. Raises BadInput for impossible values."""
    if not job.lora:
        return None
    from peft import LoraConfig

    values = {each.name: job.given[each.name].value for each in fields(LoraOptions) if each.name in job.given}
    chosen = LoraOptions(**values)
    for name, wrong in (
        ("lora_r", chosen.lora_r < 1),
        ("lora_alpha", chosen.lora_alpha < 1),
        ("lora_dropout", not 0 <= chosen.lora_dropout < 1),
    ):
        if wrong:
            bounds = "it must lie in [0, 1)" if name == "lora_dropout" else "it must be 1 or more"
            raise BadInput(f"{job.given[name].place}: {name} is {getattr(chosen, name)}; {bounds}")
    return LoraConfig(
        r=chosen.lora_r,
        lora_alpha=chosen.lora_alpha,
        lora_dropout=chosen.lora_dropout,
        target_modules=chosen.lora_target_modules,
        # a reward model's new head starts random: peft trains it whole when told that this is a classifier
        task_type="SEQ_CLS" if job.task == "reward" else "CAUSAL_LM",
    )


def merge(adapter: str | Path, output: str | Path) -> Path:
    """Write the model that an adapter and its base make together, with the tokenizer, and return its folder.

    Raises:
        BadInput: `adapter` is no adapter, its base is gone, or `output` is not empty.
        StorageError: `output` cannot be written.
    """
    from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification, PeftConfig
    from transformers import AutoTokenizer

    adapter, output = Path(adapter), Path(output)
    if not (adapter / "adapter_config.json").is_file():
        raise BadInput(f"{adapter}: holds no LoRA adapter (adapter_config.json); name a folder that --lora wrote")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BadInput(f"{output}: is not an empty folder; name a new one")
    try:
        reward = PeftConfig.from_pretrained(adapter).task_type == "SEQ_CLS"
        kind = AutoPeftModelForSequenceClassification if reward else AutoPeftModelForCausalLM
        model = kind.from_pretrained(adapter, **({"num_labels": 1} if reward else {})).merge_and_unload()
        tokenizer = AutoTokenizer.from_pretrained(adapter)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BadInput(f"{adapter}: cannot be merged ({words_of(error)})") from error
    try:
        model.save_pretrained(output)
        tokenizer.save_pretrained(output)
    except OSError as error:
        raise StorageError(f"{output}: cannot be written ({error.strerror or error})") from error
    return output
