"""From the first step to the saved model, the same for every trainer: what is kept, and what is said about it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solon import __version__
from solon.training.faults import translated
from solon.training.job import LIBRARIES, Job, Trained, installed, write_note
from solon.training.options import OURS

if TYPE_CHECKING:
    from solon.training.curves import Recorder
    from solon.training.views import View

__all__ = ["walk"]


def walk(job: Job, view: View, trainer: Any, recorder: Recorder, *, left_out: int) -> Trained:
    """Train, ask the held-out rows once more, save the model, and return what came out.

    left_out: rows that the trainer dropped for their length

    Raises:
        BadInput: memory that does not suffice, or what TRL refuses.
        StorageError: the output cannot be written.
        SolonError: the loss became nan.
    """
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)  # the recorder says what it would print
    began = time.monotonic()
    with recorder, _going_on(job, trainer), translated(job):
        trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
        if trainer.eval_dataset is not None and not recorder.tested(trainer):
            trainer.evaluate()
        trainer.save_model(str(job.output))
    return _finish(job, view, trainer, recorder, left_out=left_out, seconds=time.monotonic() - began)


@contextlib.contextmanager
def _going_on(job: Job, trainer: Any) -> Iterator[None]:
    """Let Ctrl-C through, and say what it leaves and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        state = trainer.state
        kept = max(job.output.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), default=None)
        how = (
            f"go on with --output {job.output} --set resume_from_checkpoint={kept}"
            if kept
            else "no checkpoint was written; --set save_strategy=steps --set save_steps=... keeps some"
        )
        job.say(
            f"stopped at step {state.global_step} of {state.max_steps}; the curves so far are in {job.output}; {how}"
        )
        raise


def _finish(job: Job, view: View, trainer: Any, recorder: Recorder, *, left_out: int, seconds: float) -> Trained:
    """Write `solon.json` into the finished folder and return what came out. Raises StorageError."""
    rows = len(view.train) - left_out
    write_note(
        job.output,
        {
            "task": job.task,
            "model": job.model,
            "lora": job.lora,
            "view": view.name,
            "runs": [_origin(folder) for folder in view.folders],
            "rows": {"train": rows, "left_out": left_out, "test": view.test_rows},
            "steps": trainer.state.global_step,
            "seconds": round(seconds, 1),
            "metrics": recorder.last(),
            "options": _options(job, trainer.args),
            "versions": {"solon": __version__, **{name: installed(name) for name in LIBRARIES}},
        },
    )
    if job.lora:
        merged = f"{job.output}-merged"
        job.say(
            f"{job.output} is a LoRA adapter; for a model of its own: python -c "
            f"\"from solon.training import merge; merge('{job.output}', '{merged}')\""
        )
    return Trained(
        folder=job.output,
        curves=recorder.picture,
        log=recorder.path,
        metrics=recorder.ends(),
        rows=rows,
        left_out=left_out,
        steps=trainer.state.global_step,
        seconds=seconds,
    )


def _options(job: Job, config: Any) -> dict[str, Any]:
    """Return the options that somebody chose, the user or we, as TRL took them."""
    values = {**config.to_dict(), **{name: each.value for name, each in job.given.items() if job.lora}}
    return {name: values[name] for name in sorted({*job.given, *OURS}) if name in values}


def _origin(folder: Path) -> dict[str, Any]:
    """Return a dataset folder with what its card says of the plan behind it."""
    from huggingface_hub import metadata_load

    run = folder.parent if folder.name == "dataset" else folder
    card = metadata_load(folder / "README.md") or {}
    told = {name: card[name] for name in ("pretty_name", "solon") if card.get(name)}
    return {"run": run.resolve().name, **told}
