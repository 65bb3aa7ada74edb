"""A reward model on Solon's pairs, from the dataset to a saved model.

The language model gets a head with one number, read at the last token of a conversation: its score. Pairs teach it
to score the chosen answer above the rejected one (Bradley and Terry 1952; Ouyang et al. 2022, arXiv:2203.02155):

    loss = -ln sigmoid( score(chosen) - score(rejected) - m )

where m is the pair's `margin` if the view has that column, else 0. Only differences of scores are learned; the level
is free, and `--set center_rewards_coefficient=0.01` keeps it near 0. What to watch: test accuracy; a reward model
learns its pairs by heart in a second epoch, so one is the default.

Under about 2,000 pairs a reward model is hardly better than chance (Gao et al. 2022, arXiv:2210.10760), and it is
said aloud.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from trl import RewardConfig, RewardTrainer

from solon.errors import BadInput
from solon.training import guards, options, views
from solon.training.base import introduce, open_base
from solon.training.curves import Panel, Recorder
from solon.training.faults import translated
from solon.training.job import Job, Trained
from solon.training.lora import peft_config
from solon.training.saving import walk

__all__ = ["FEW_PAIRS", "train"]

FEW_PAIRS = 2000
"""Comparisons below which reward models of any size were seen to be barely better than chance."""


def train(job: Job) -> Trained:
    """Train a reward model on the `reward` view of the job's runs and save it to the job's output.

    Raises:
        BadInput: a folder, model or option that cannot be used, a missing margin, memory that does not suffice.
        StorageError: the output cannot be written.
        SolonError: the loss became nan.
    """
    # 1. The pairs: chosen and rejected, whole conversations or answers to `prompt`. TRL acts on a `margin` column as
    #    soon as it is there, and stumbles over an empty one in the middle of an epoch.
    job = replace(job, given=options.accept(RewardConfig, job.given))
    pairs = views.read(job, "reward", columns=("chosen", "rejected"), optional=("prompt", "margin"))
    _check_margins(job, pairs)

    # 2. The model, seen without its weights, and TRL's options: our defaults, then the file's, then --set.
    base = open_base(job, pairs.train[0])
    config = options.build(RewardConfig, job, base, rows=len(pairs.train))
    guards.check(job, config, test_rows=pairs.test_rows, positions=base.positions)
    introduce(job, base, pairs)

    # 3. TRL loads the model with one output (num_labels=1), whose head starts at random from the seed, and drops
    #    every pair with a text longer than max_length.
    recorder = Recorder(
        job,
        panels=(
            Panel("loss", "Loss", "nats per pair", math.log(2), "undecided (ln 2)"),
            Panel("accuracy", "Accuracy", "share of pairs with chosen ahead", 0.5, "chance"),
            Panel("margin", "Margin", "score of chosen - rejected (nats)", 0.0, "undecided"),
        ),
        title=f"Reward model from {Path(job.model).name} on {len(pairs.train):,} pairs",
    )
    with translated(job):
        trainer = RewardTrainer(
            model=base.path,
            args=config,
            train_dataset=pairs.train,
            eval_dataset=pairs.test,
            processing_class=base.tokenizer,
            peft_config=peft_config(job),
            callbacks=[recorder],
        )
    left_out = views.count_kept(job, pairs, trainer)
    kept = len(trainer.train_dataset)
    if kept < FEW_PAIRS:
        job.say(
            f"warning: {kept:,} pairs to train on; under about {FEW_PAIRS:,} a reward model is barely better than "
            "chance (Gao et al. 2022, arXiv:2210.10760): do not optimise against its scores"
        )

    # 4. Walk over the pairs, then ask the held-out ones once more, and keep the model.
    return walk(job, pairs, trainer, recorder, left_out=left_out)


def _check_margins(job: Job, pairs: views.View) -> None:
    """Say that margins act; refuse one that is missing, which TRL would meet in the middle of an epoch."""
    for split, rows in (("train", pairs.train), ("test", pairs.test)):
        if rows is None or "margin" not in rows.column_names:
            continue
        margins = list(rows["margin"])
        empty = sum(margin is None or not math.isfinite(margin) for margin in margins)
        if empty:
            raise BadInput(f"{empty:,} of {len(margins):,} {split} pairs have no margin; export all with it, or none")
        job.say(f"the {split} pairs carry margins, mean {sum(margins) / len(margins):.2f} nats; the loss asks for them")
