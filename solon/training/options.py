"""Options of a trainer: ours, then the file's, then `--set`, all of them fields of TRL's own config class.

    given  = read(["learning_rate=1e-5"], Path("dpo.yaml"))       name -> Given(value, place)
    given  = accept(DPOConfig, given)                             names known, values of the right type
    config = build(DPOConfig, job, base, rows=96)                 DPOConfig, with our defaults under it

Values are read as YAML, so `--set loss_type=[sigmoid,sft]` and `--set max_length=null` mean what they say. Our
defaults differ from TRL's where a small set of pairs, a small model or a machine without a GPU asks for it; each
says why in `defaults`. Everything else is TRL's.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solon import yamls
from solon.complaints import closest, words_of
from solon.errors import BadInput
from solon.training.job import Given

if TYPE_CHECKING:
    from solon.training.base import Base
    from solon.training.job import Job

__all__ = [
    "OURS",
    "TESTED_TRL",
    "LoraOptions",
    "accept",
    "build",
    "defaults",
    "field_defaults",
    "read",
    "warn_of_trl",
]

TESTED_TRL = ((1, 16), (1, 17))
"""The guards were read in this TRL's source and tried on it: from the first on, before the second."""

SMALL = 1_000_000_000
"""Parameters below which a model is small. Small models need, and bear, larger learning rates."""

LEARNING_RATES = {"sft": (5e-5, 2e-5), "reward": (2e-5, 1e-5), "dpo": (5e-6, 1e-6)}
"""By task: of a small model, of a large one."""


@dataclass(frozen=True)
class LoraOptions:
    """Options of `--lora`, under the names that TRL's command line gives them.

    Rank 16 on every linear layer: where LoRA was seen to keep up with full training, it was put on all layers, and
    preference data are far too small to fill rank 16. alpha = 2 r is the habit that most recipes share.
    """

    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    lora_target_modules: str | list[str] = "all-linear"


def read(sets: Iterable[str], options_file: Path | None) -> dict[str, Given]:
    """Return what the options file and the `--set` flags say; a flag wins. Raises BadInput with every mistake."""
    given: dict[str, Given] = {}
    if options_file is not None:
        document = yamls.read(options_file)
        for name, value in document.value.items():
            given[name] = Given(value, f"{document.name}:{document.line((name,))}")
    problems = []
    flags: dict[str, str] = {}
    for text in sets:
        name, equals, written = text.partition("=")
        name = name.strip()
        if not equals or not name:
            problems.append(f"--set {text}: write it as key=value, e.g. --set learning_rate=1e-5")
        elif name in flags:
            problems.append(f"--set {text}: {name} is already set to {flags[name]}; keep one")
        else:
            flags[name] = written
            try:
                value = yamls.parse(f"{_KEY}: {written}", f"--set {text}").value[_KEY]
            except BadInput as error:
                problems += error.problems
            else:
                given[name] = Given(value, "--set")
    if problems:
        raise BadInput(problems)
    return given


def accept(config: type, given: Mapping[str, Given]) -> dict[str, Given]:
    """Return `given` with every value turned into its field's type. Raises one BadInput with every mistake.

    config: TRL's config dataclass; the names of LoraOptions are known too.
    """
    hints = {**_hints(config), **_hints(LoraOptions)}
    accepted: dict[str, Given] = {}
    problems = []
    for name, each in given.items():
        if name in _ELSEWHERE:
            problems.append(f"{each.place}: {name} is not set here; {_ELSEWHERE[name]}")
        elif name not in hints:
            near = _RENAMED.get(name) or closest(name, hints)
            remedy = f"did you mean {near}?" if near else f"{config.__name__} in TRL's documentation lists them"
            problems.append(f"{each.place}: unknown option {name!r}; {remedy}")
        else:
            try:
                accepted[name] = Given(_coerce(each.value, hints[name]), each.place)
            except ValueError as error:
                problems.append(f"{each.place}: {name} is {each.value!r}; {error}")
    if problems:
        raise BadInput(problems)
    return accepted


def build(config: type, job: Job, base: Base, rows: int) -> Any:
    """Return TRL's config for this job.

    config: SFTConfig, RewardConfig or DPOConfig
    rows:   rows to train on, for the length of the warm-up

    Raises:
        BadInput: TRL refuses a value, or a combination of them.
    """
    given = {name: each.value for name, each in job.given.items() if name not in _hints(LoraOptions)}
    values = defaults(
        job.task,
        parameters=base.parameters,
        positions=base.positions,
        device="cpu" if given.get("use_cpu") else base.device,
        lora=job.lora,
    )
    for ours, other in (("activation_checkpointing", "gradient_checkpointing"), ("bf16", "fp16")):
        # the older name, or the other precision, would otherwise lose against our default
        if other in given:
            del values[ours]
    values.update(given)
    # a warm-up of a share of 10 steps is one step at a learning rate of 0: wasted where there are few
    values.setdefault("warmup_steps", 0.1 if _steps(values, rows) >= 20 else 0)
    try:
        return config(output_dir=str(job.output), **values)
    except (ValueError, TypeError, NotImplementedError, ImportError, AssertionError, OSError) as error:
        places = sorted({each.place for each in job.given.values()})
        where = ", ".join(places) or "our defaults"
        raise BadInput(f"{where}: TRL does not take these options: {words_of(error)}") from error


def defaults(task: str, *, parameters: int, positions: int, device: str, lora: bool) -> dict[str, Any]:
    """Return our defaults for a model of `parameters` weights and `positions` tokens of context on `device`.

    device: "cpu", "cuda" or "mps"
    """
    small, cpu = parameters < SMALL, device == "cpu"
    rate = LEARNING_RATES[task][0 if small else 1]
    return {
        # LoRA learns best at about ten times the rate of full training ("LoRA Without Regret", TRL's documentation)
        "learning_rate": 10 * rate if lora else rate,
        "lr_scheduler_type": "cosine",
        # preferences are learned by heart in a second pass (a reward model's test loss rises); demonstrations are not
        "num_train_epochs": 2 if task == "sft" else 1,
        # on a GPU 16 rows a step, as in most recipes; on a CPU 4, since waiting costs more than noise, and two at a
        # time, since four at once were no faster a pair and took 2 GB more (135M weights, 384 tokens)
        "per_device_train_batch_size": 8 if small and not cpu else 2,
        "per_device_eval_batch_size": 8 if small and not cpu else 2,
        "gradient_accumulation_steps": 2 if small else 8,
        # TRL cuts (sft, dpo) or drops (reward) what is longer; a CPU pays for every token
        "max_length": min(512 if cpu else 1024, positions),
        # TRL asks for bfloat16 everywhere and refuses to start where there is none
        "use_cpu": cpu,
        "bf16": device == "cuda",
        # master weights stay in float32 unless LoRA freezes them
        **({"model_init_kwargs": {"dtype": "bfloat16"}} if lora and device == "cuda" else {}),
        # trades time for memory: worth it where memory is a GPU's and the model large (the older name warns)
        "activation_checkpointing": not cpu and not small,
        "dataloader_pin_memory": device == "cuda",
        # about fifty points on the curves, however long the training
        "logging_steps": 0.02,
        "logging_first_step": True,
        # the default hides a nan behind the last good loss; we stop there instead
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        # nothing is reported to anybody unless asked for
        "report_to": "none",
        # hours on a GPU deserve checkpoints; minutes on a CPU do not, at three times the model's size each
        **({"save_strategy": "no"} if cpu else {"save_strategy": "steps", "save_steps": 500, "save_total_limit": 1}),
    }


def field_defaults(config: type) -> dict[str, Any]:
    """Return the default of every field of a dataclass: for TRL's config, what holds where nobody says anything."""
    plain: dict[str, Any] = {}
    for each in fields(config):
        if each.default is not MISSING:
            plain[each.name] = each.default
        elif each.default_factory is not MISSING:
            plain[each.name] = each.default_factory()
    return plain


def warn_of_trl(found: str, say: Callable[[str], None]) -> None:
    """Say aloud that TRL's version `found` is not one that the guards were tried on."""
    low, high = (".".join(map(str, each)) for each in TESTED_TRL)
    numbers = tuple(int(part) for part in found.split(".")[:2] if part.isdecimal())
    if not TESTED_TRL[0] <= numbers < TESTED_TRL[1]:
        say(
            f"warning: TRL {found} is not tested here (tested: {low} up to, not including, {high}); what it ignores or "
            f"drops may differ from what is checked. pip install 'trl>={low},<{high}'"
        )


OURS = frozenset(
    name for device in ("cpu", "cuda") for name in defaults("dpo", parameters=0, positions=1, device=device, lora=True)
) | {"warmup_steps", "seed"}
"""Names of the options that we decide where the user does not, and of the seed."""


def _steps(values: Mapping[str, Any], rows: int) -> int:
    if values.get("max_steps", -1) > 0:
        return int(values["max_steps"])
    batch = values["per_device_train_batch_size"] * values["gradient_accumulation_steps"]
    return math.ceil(rows / max(1, batch) * values["num_train_epochs"])


def _hints(config: type) -> dict[str, Any]:
    """Return name -> type of the fields that a caller may set."""
    hints = typing.get_type_hints(config)
    return {each.name: hints[each.name] for each in fields(config) if each.init}


def _coerce(value: Any, hint: Any) -> Any:
    """Return `value` as the type that `hint` names. Raises ValueError that says what it should be."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    kinds = typing.get_args(hint) if _is_union(hint) else (hint,)
    if isinstance(value, bool) and bool not in kinds and Any not in kinds:
        raise ValueError(f"expected {_named(hint)}, not a yes or no")
    lists = [kind for kind in kinds if typing.get_origin(kind) is list]
    if lists and not isinstance(value, (list, type(None))) and str not in kinds:
        value = [value]
    try:
        adapter = TypeAdapter(
            hint, config=ConfigDict(coerce_numbers_to_str=True, arbitrary_types_allowed=True, allow_inf_nan=False)
        )
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"expected {_named(hint)} ({first['msg'][0].lower()}{first['msg'][1:]})") from None


def _named(hint: Any) -> str:
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)] if _is_union(hint) else [hint]
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", dict: "a mapping"}
    return " or ".join(
        names.get(kind)
        or names.get(typing.get_origin(kind))
        or ("a list" if typing.get_origin(kind) is list else kind.__name__)
        for kind in kinds
    )


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


_KEY = "value"

_ELSEWHERE = {
    "output_dir": "use --output",
    "hub_token": "a secret has no place in a command or a file: set HF_TOKEN in the environment",
    "do_train": "TRL's trainers never read it",
    "do_eval": "TRL's trainers never read it; a test split is evaluated at the end, and with eval_strategy on the way",
    "do_predict": "TRL's trainers never read it",
    "include_for_metrics": "it acts only on a compute_metrics function, and none is used here",
    "batch_eval_metrics": "it acts only on a compute_metrics function, and none is used here",
}

_RENAMED = {
    "lr": "learning_rate",
    "batch_size": "per_device_train_batch_size",
    "epochs": "num_train_epochs",
    "steps": "max_steps",
    "warmup_ratio": "warmup_steps (below 1 it is a share of all steps)",
    "evaluation_strategy": "eval_strategy",
    "max_seq_length": "max_length",
    "max_prompt_length": "max_length (it counts prompt and answer together)",
    "group_by_length": "train_sampling_strategy",
    "lora_rank": "lora_r",
}
