"""Supervised fine-tuning (SFT) on Solon's revisions, from the dataset to a saved model.

The supervised stage of Constitutional AI (Bai et al. 2022, arXiv:2212.08073): the model learns to answer a prompt
at once as it would have answered after critique and revision. A row is a prompt and the completion to imitate; the
loss is that of the completion's tokens alone, for the prompt is what others say:

    loss = - mean over tokens t of the completion: ln p(t | prompt, completion so far)

What to watch: test loss. It falls, then turns; where it turns, more epochs teach the rows and not the behaviour.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trl import SFTConfig, SFTTrainer

from solon.training import guards, options, views
from solon.training.base import introduce, open_base
from solon.training.curves import Panel, Recorder
from solon.training.faults import translated
from solon.training.job import Job, Trained
from solon.training.lora import peft_config
from solon.training.saving import walk

__all__ = ["train"]


def train(job: Job) -> Trained:
    """Train a model on the `sft` view of the job's runs and save it to the job's output.

    Raises:
        BadInput: a folder, model or option that cannot be used, memory that does not suffice.
        StorageError: the output cannot be written.
        SolonError: the loss became nan.
    """
    # 1. The rows: prompt (one or more turns) and completion (the assistant's revised answer).
    job = replace(job, given=options.accept(SFTConfig, job.given))
    rows = views.read(job, "sft", columns=("prompt", "completion"))

    # 2. The model, seen without its weights, and TRL's options: our defaults, then the file's, then --set.
    base = open_base(job, rows.train[0])
    config = options.build(SFTConfig, job, base, rows=len(rows.train))
    guards.check(job, config, test_rows=rows.test_rows, positions=base.positions)
    introduce(job, base, rows)

    # 3. TRL loads the model, writes each row in the model's chat template, turns it into tokens, cuts at max_length,
    #    and masks the prompt out of the loss.
    recorder = Recorder(
        job,
        panels=(
            Panel("loss", "Loss", "nats per token of the completion"),
            Panel("mean_token_accuracy", "Token accuracy", "share of tokens guessed first"),
            Panel("entropy", "Entropy", "nats per token"),
        ),
        title=f"SFT of {Path(job.model).name} on {len(rows.train):,} rows",
    )
    with translated(job):
        trainer = SFTTrainer(
            model=base.path,
            args=config,
            train_dataset=rows.train,
            eval_dataset=rows.test,
            processing_class=base.tokenizer,
            peft_config=peft_config(job),
            callbacks=[recorder],
        )
    left_out = views.count_kept(job, rows, trainer, packed=config.packing)

    # 4. Walk over the rows, then ask the held-out ones once more, and keep the model.
    return walk(job, rows, trainer, recorder, left_out=left_out)
