"""Options that the installed TRL would ignore, or trip over in the middle: refused at the start, with a remedy.

A switch that does nothing is worse than none: who sets `label_smoothing=0.1` for uncertain labels believes to train
a conservative DPO. TRL took it out of the default loss in 0.29 without a word. The tables below were read in the
source of TRL 1.16.0; tests/test_training.py runs TRL to show that they are still true, so that a guard goes when
TRL changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from solon.errors import BadInput
from solon.training.job import installed
from solon.training.options import LoraOptions, field_defaults

if TYPE_CHECKING:
    from solon.training.job import Job

__all__ = ["DPO_LOSSES", "F_DIVERGENCE", "LABEL_SMOOTHING", "NO_WEIGHTING", "check"]

LABEL_SMOOTHING = frozenset({"robust", "exo_pair", "aot", "aot_unpaired"})
"""DPO losses that read `label_smoothing`."""

F_DIVERGENCE = frozenset({"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop"})
"""DPO losses that act on `f_divergence_type`; "sft" may stand beside them and ignores it."""

NO_WEIGHTING = frozenset({"sft", "hinge", "aot", "aot_unpaired"})
"""DPO losses that end in an error with `use_weighting`: it multiplies in place what autograd still needs."""

DPO_LOSSES = F_DIVERGENCE | LABEL_SMOOTHING | {"nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down", "sft"}


@dataclass(frozen=True)
class Trap:
    """An option that has no effect unless `acts(config)`; `why` finishes the sentence "... is ignored: "."""

    option: str
    acts: Callable[[Any], bool]
    why: str
    tasks: tuple[str, ...] = ("sft", "reward", "dpo")


def check(job: Job, config: Any, *, test_rows: int, positions: int) -> None:
    """Refuse options that would be ignored, and combinations that would crash later.

    config:    what `options.build` returned
    test_rows: rows of the test split, 0 where there is none
    positions: tokens of context that the model was made for

    Raises:
        BadInput: with every problem, each naming the option, its place and a remedy.
    """
    problems = _ignored(job, config)
    wrong = [*_impossible(job, config, test_rows, positions)]
    if job.task == "dpo":
        wrong += _impossible_losses(job, config)
    for option, text in wrong:
        given = job.given.get(option)
        value, place = (given.value, given.place) if given else (getattr(config, option), "our defaults")
        problems.append(f"{place}: {option}={value} {text}")
    if problems:
        raise BadInput(problems)


def _ignored(job: Job, config: Any) -> list[str]:
    plain = field_defaults(type(config))
    problems = []
    for trap in TRAPS:
        given = job.given.get(trap.option)
        # saying the default aloud is harmless
        if given is None or job.task not in trap.tasks or given.value == plain.get(trap.option):
            continue
        if not trap.acts(config):
            what = f"{trap.option}={given.value}"
            problems.append(f"{given.place}: {what} would be ignored by TRL {installed('trl')}: {trap.why}")
    if not job.lora:
        for name in field_defaults(LoraOptions):
            if name in job.given:
                problems.append(f"{job.given[name].place}: {name} acts only with --lora; add it, or leave {name} out")
    return problems


def _impossible(job: Job, config: Any, test_rows: int, positions: int) -> Iterator[tuple[str, str]]:
    """Yield (option, what is wrong with it) for every trainer."""
    if not test_rows:
        for option in ("eval_strategy", "eval_on_start", "load_best_model_at_end"):
            if option in job.given and getattr(config, option) not in ("no", False):
                yield option, "needs a test split, and the dataset has none; export with one, or leave it out"
    if config.max_length is not None and config.max_length > positions:
        yield "max_length", f"is longer than the model's context of {positions} tokens; lower it"
    if config.activation_offloading and config.use_cpu:
        yield "activation_offloading", "moves memory from a GPU, and this trains on the CPU; leave it out"
    if config.train_sampling_strategy == "group_by_length" and job.task != "sft":
        yield "train_sampling_strategy", "needs rows with one text each, and pairs have two; leave it out"
    if job.task == "sft" and (config.dataset_kwargs or {}).get("skip_prepare_dataset"):
        yield "dataset_kwargs", "would leave the texts untokenised, and TRL cannot train on them so; leave it out"


def _impossible_losses(job: Job, config: Any) -> Iterator[tuple[str, str]]:
    """Yield (option, what is wrong with it) for DPO's losses."""
    losses = set(config.loss_type)
    if losses - DPO_LOSSES:
        yield "loss_type", f"is not known: {_listed(losses - DPO_LOSSES)}; choose from {_listed(DPO_LOSSES)}"
    if "robust" in losses and not 0 <= config.label_smoothing < 0.5:
        yield "label_smoothing", "is the share of flipped labels to loss_type=robust; it must lie in [0, 0.5)"
    if "exo_pair" in losses and not 0 < config.label_smoothing < 1:
        yield "label_smoothing", "is outside (0, 1), where loss_type=exo_pair needs it; its paper takes 1e-3"
    if config.use_weighting and losses & NO_WEIGHTING:
        yield "use_weighting", f"crashes TRL with loss_type {_listed(losses & NO_WEIGHTING)}; leave one of them out"
    if config.f_divergence_type not in _DIVERGENCES:
        yield "f_divergence_type", f"is not known; choose from {_listed(_DIVERGENCES)}"
    elif config.f_divergence_type != "reverse_kl" and losses - F_DIVERGENCE - {"sft"}:
        without = _listed(losses - F_DIVERGENCE - {"sft"})
        yield "f_divergence_type", f"has no meaning for loss_type {without}; it works with {_listed(F_DIVERGENCE)}"
    if config.ld_alpha is not None and not 0 <= config.ld_alpha <= 1:
        yield "ld_alpha", "is a share; it must lie in [0, 1]"
    if config.beta <= 0:
        yield "beta", "must be above 0: it is how dearly the model pays for leaving the reference"
    if config.sync_ref_model and (job.lora or config.precompute_ref_log_probs):
        other = "--lora" if job.lora else "precompute_ref_log_probs"
        yield "sync_ref_model", f"needs a reference model of its own, and {other} keeps none; leave one of them out"


def _listed(names: frozenset[str] | set[str] | tuple[str, ...]) -> str:
    return ", ".join(sorted(names))


_DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")

_ONLY_PAIRS = ("reward", "dpo")


def _some(names: frozenset[str]) -> Callable[[Any], bool]:
    return lambda config: bool(set(config.loss_type) & names)


def _not_only_sft(config: Any) -> bool:
    return set(config.loss_type) != {"sft"}


TRAPS = (
    # DPO: trl/trainer/dpo_trainer.py, `_compute_loss`
    Trap(
        "label_smoothing",
        _some(LABEL_SMOOTHING),
        f"only the losses {_listed(LABEL_SMOOTHING)} read it; choose loss_type=robust (the value is then the share of "
        "flipped labels), or leave it out",
        ("dpo",),
    ),
    Trap("f_divergence_type", _not_only_sft, "loss_type=sft has no divergence; leave it out", ("dpo",)),
    Trap(
        "f_alpha_divergence_coef",
        lambda config: config.f_divergence_type == "alpha_divergence",
        "it acts only with f_divergence_type=alpha_divergence",
        ("dpo",),
    ),
    Trap("beta", _not_only_sft, "loss_type=sft has no reference to stay near; leave it out", ("dpo",)),
    Trap("ld_alpha", _not_only_sft, "loss_type=sft counts every token alike; leave it out", ("dpo",)),
    Trap(
        "discopop_tau",
        lambda config: "discopop" in config.loss_type,
        "it acts only with loss_type=discopop",
        ("dpo",),
    ),
    Trap(
        "padding_free", lambda _: False, "its DPO trainer pads all the same since its rewrite; leave it out", ("dpo",)
    ),
    Trap(
        "precompute_ref_batch_size",
        lambda config: config.precompute_ref_log_probs,
        "it acts only with precompute_ref_log_probs=true",
        ("dpo",),
    ),
    *(
        Trap(name, lambda config: config.sync_ref_model, "it acts only with sync_ref_model=true", ("dpo",))
        for name in ("ref_model_mixup_alpha", "ref_model_sync_steps")
    ),
    # losses of their own: DPO and reward never come to the line of transformers that smooths labels
    Trap(
        "label_smoothing_factor",
        lambda _: False,
        "it smooths tokens, and a loss over pairs has none to smooth; leave it out",
        _ONLY_PAIRS,
    ),
    Trap(
        "label_smoothing_factor",
        lambda config: config.loss_type != "dft",
        "loss_type=dft has its own loss; use loss_type=nll, or leave it out",
        ("sft",),
    ),
    # SFT: trl/trainer/sft_trainer.py, `_prepare_dataset`
    Trap(
        "packing_strategy",
        lambda config: config.packing or config.eval_packing,
        "it acts only with packing=true",
        ("sft",),
    ),
    Trap("dataset_text_field", lambda _: False, "the sft view has prompt and completion; leave it out", ("sft",)),
    # transformers/training_args.py and trainer.py
    Trap(
        "num_train_epochs",
        lambda config: config.max_steps <= 0,
        "max_steps decides how long to train where it is set; keep one of the two",
    ),
    Trap("eval_steps", lambda config: config.eval_strategy == "steps", "it acts only with eval_strategy=steps"),
    Trap("eval_delay", lambda config: config.eval_strategy != "no", "it acts only with an eval_strategy"),
    Trap("save_steps", lambda config: config.save_strategy == "steps", "it acts only with save_strategy=steps"),
    Trap("save_total_limit", lambda config: config.save_strategy != "no", "it acts only with a save_strategy"),
    Trap("save_only_model", lambda config: config.save_strategy != "no", "it acts only with a save_strategy"),
    Trap(
        "logging_steps", lambda config: config.logging_strategy == "steps", "it acts only with logging_strategy=steps"
    ),
    *(
        Trap(
            name,
            lambda config: (
                config.load_best_model_at_end
                or config.save_strategy == "best"
                or config.lr_scheduler_type in ("reduce_lr_on_plateau", "greedy")
            ),
            "it acts only with load_best_model_at_end=true or save_strategy=best",
        )
        for name in ("metric_for_best_model", "greater_is_better")
    ),
    *(
        Trap(name, lambda config: config.activation_checkpointing, "it acts only with activation_checkpointing=true")
        for name in ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs")
    ),
    *(
        Trap(name, lambda config: config.push_to_hub, "it acts only with push_to_hub=true")
        for name in ("hub_model_id", "hub_private_repo", "hub_strategy", "hub_always_push", "hub_revision")
    ),
    Trap(
        "length_column_name",
        lambda config: config.train_sampling_strategy == "group_by_length",
        "it acts only with train_sampling_strategy=group_by_length",
    ),
)
