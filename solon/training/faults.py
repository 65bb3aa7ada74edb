"""What the training libraries raise and shout, turned into one clear line, or into silence."""

from __future__ import annotations

import contextlib
import errno
import importlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from solon.complaints import words_of
from solon.errors import BadInput, NotInstalled, SolonError, StorageError
from solon.training.job import installed

if TYPE_CHECKING:
    from solon.training.job import Job

__all__ = ["needs", "quiet", "translated"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def needs(*libraries: str) -> None:
    """Raise NotInstalled unless every library can be imported."""
    missing = []
    for library in libraries:
        try:
            importlib.import_module(library)
        except ImportError:
            missing.append(library)
    if missing:
        raise NotInstalled(f"training needs {', '.join(missing)}: pip install 'solon[train]'")


@contextlib.contextmanager
def translated(job: Job) -> Iterator[None]:
    """Turn what TRL, transformers, torch and the disk raise inside into one SolonError with a remedy.

    Raises:
        BadInput: out of memory, or a model, data or option that the libraries refuse.
        StorageError: the output folder cannot be written.
    """
    try:
        yield
    except SolonError:
        raise
    except MemoryError as error:
        raise BadInput(_out_of_memory(job)) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise StorageError(
                f"{job.output}: cannot be written ({error.strerror}); free some space, or choose another --output"
            ) from error
        # torch.OutOfMemoryError is a RuntimeError, and so is a CPU allocator that gives up
        memory = "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower()
        raise BadInput(_out_of_memory(job) if memory else _refused(job, error)) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars of libraries and their advice to programmers off the screen inside."""
    import datasets
    from transformers.utils import logging

    bars, loading = datasets.are_progress_bars_disabled(), logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        if not bars:
            datasets.enable_progress_bars()
        if loading:
            logging.enable_progress_bar()


def _out_of_memory(job: Job) -> str:
    remedies = [
        "--set per_device_train_batch_size=1 with a larger gradient_accumulation_steps",
        "a smaller max_length",
        *([] if job.lora else ["--lora"]),
        "--set activation_checkpointing=true",
        "a smaller --model",
    ]
    return f"{job.task} of {job.model} does not fit into memory; try {', '.join(remedies)}"


def _refused(job: Job, error: Exception) -> str:
    told = f"{type(error).__name__}: {words_of(error)}"
    return f"{job.task} of {job.model} failed in TRL {installed('trl')}: {told}"
