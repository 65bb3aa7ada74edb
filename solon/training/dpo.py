"""Direct preference optimization (DPO) on Solon's pairs, from the dataset to a saved model.

Rafailov et al. 2023 (arXiv:2305.18290). A pair (prompt x, chosen y+, rejected y-) is a vote that y+ is better. The
model's implicit reward for an answer is how much likelier it became than under a frozen copy of itself, the
reference: r(y) = beta * [ln p(y|x) - ln p_ref(y|x)]. DPO raises the chance that the votes come out as they did:

    loss = -ln sigmoid( r(y+) - r(y-) )

so it needs no reward model and no sampling. It starts at ln 2 = 0.693 with a margin r(y+) - r(y-) of 0, for at the
start the model is its own reference. A small beta lets the model go far. What to watch: the test accuracy (share of
pairs with a margin above 0) should rise and stay; `logps/chosen` falling together with `logps/rejected` means that
the model forgets how to answer at all.

There is no soft label here: TRL's losses take a pair as certain. Uncertain labels: `--set loss_type=robust --set
label_smoothing=0.1`, where 0.1 is the share of pairs that are the wrong way round.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from trl import DPOConfig, DPOTrainer

from solon.training import guards, options, views
from solon.training.base import introduce, open_base
from solon.training.curves import Panel, Recorder
from solon.training.faults import translated
from solon.training.job import Job, Trained
from solon.training.lora import peft_config
from solon.training.saving import walk

__all__ = ["train"]


def train(job: Job) -> Trained:
    """Train a model on the `preference` view of the job's runs and save it to the job's output.

    Raises:
        BadInput: a folder, model or option that cannot be used, memory that does not suffice.
        StorageError: the output cannot be written.
        SolonError: the loss became nan.
    """
    # 1. The pairs. A row is prompt (one or more turns), chosen and rejected (the answer to it), each a list of
    #    {"role", "content"}. Everything else that the dataset knows of a pair (votes, principle, judge) stays behind.
    job = replace(job, given=options.accept(DPOConfig, job.given))
    pairs = views.read(job, "preference", columns=("prompt", "chosen", "rejected"))

    # 2. The model, seen without its weights, and TRL's options: our defaults, then the file's, then --set.
    base = open_base(job, pairs.train[0])
    config = options.build(DPOConfig, job, base, rows=len(pairs.train))
    guards.check(job, config, test_rows=pairs.test_rows, positions=base.positions)
    introduce(job, base, pairs)

    # 3. TRL loads the model and its reference (with LoRA the same weights, adapter off), writes each pair in the
    #    model's chat template and turns it into tokens. Only the tokens of the answers count in the loss.
    margin = "rewards/margins"
    certain = set(config.loss_type) <= {"sigmoid", "sigmoid_norm"}
    recorder = Recorder(
        job,
        panels=(
            Panel("loss", "Loss", "nats per pair", math.log(2) if certain else None, "undecided (ln 2)"),
            Panel("rewards/accuracies", "Accuracy", "share of pairs with chosen ahead", 0.5, "chance", tied=margin),
            Panel(margin, "Margin", "reward of chosen - rejected (beta × nats)", 0.0, "reference"),
        ),
        title=f"DPO of {Path(job.model).name} on {len(pairs.train):,} pairs",
    )
    with translated(job):
        trainer = DPOTrainer(
            model=base.path,
            args=config,
            train_dataset=pairs.train,
            eval_dataset=pairs.test,
            processing_class=base.tokenizer,
            peft_config=peft_config(job),
            callbacks=[recorder],
        )
    left_out = views.count_kept(job, pairs, trainer)

    # 4. Walk over the pairs, then ask the held-out ones once more, and keep the model.
    return walk(job, pairs, trainer, recorder, left_out=left_out)
