"""A model on this machine, through transformers: one thread that computes, any number of calls that wait for it.

    LocalModel(ModelSpec(use="smollm2"))                    the embedded model
    LocalModel(ModelSpec(use="local:Qwen/Qwen3-0.6B"))      a hub id, a folder, a .gguf file

Calls that wait are computed together (`batches`: steady on a CPU, free on a GPU, `steady:` turns it), each token is
decided by a hash of the call's key (`decode`), a schema is kept where llguidance is installed (`grammar`), and labels
get their exact log-probability by teacher forcing. Nothing is loaded before the first call, and the event loop never
waits for torch: `worker` has a thread of its own.

The identity is "local:<name>#<16 hex digits>" over the source's files (weights, tokenizer, template, generation
config), the dtype, and a context that the recipe narrows. Not in it: device, threads, batch size, steady or not. They
change the last digits of logits, as another machine does, not the model; in steady mode an answer is a function of
call, machine, thread count and batch size, in free mode of its neighbours too.

Options of a recipe that are understood: top_k, min_p, repetition_penalty, and chat_template_kwargs (for templates
with switches, `enable_thinking: false`). What the model's generation config says holds where a call says nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import importlib.util
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, InvalidStateError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solon.calls import Call, Can, Form, Reply
from solon.complaints import words_of
from solon.digests import tagged
from solon.errors import BadInput, CallFailed, Halt, NotInstalled, SolonError
from solon.models import weights
from solon.models.spec import ModelSpec

if TYPE_CHECKING:
    from solon.models.worker import Worker

__all__ = ["LocalModel"]

QUIET = 0.02  # seconds without a new call after which a free batch starts
PATIENCE = 0.2  # seconds after which it starts anyway
GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")

OPTIONS: dict[str, tuple[str, Any]] = {
    "chat_template_kwargs": ("a mapping", lambda it: isinstance(it, Mapping)),
    "min_p": ("a number from 0 to 1", lambda it: _number(it) and 0 <= it <= 1),
    "repetition_penalty": ("a number above 0", lambda it: _number(it) and it > 0),
    "top_k": ("a whole number, 0 for no limit", lambda it: type(it) is int and it >= 0),
}
"""What each option must be, and the test of it."""


class LocalModel:
    """A transformers model as a `solon.calls.Model`.

    Args:
        spec: `target` says which weights; device, dtype, batch, context, steady, form, identity, concurrency, options.
        base: where relative folders begin.

    Raises BadInput (no such weights, an unknown option), NotInstalled. What shows itself only at load (no chat
    template, not enough memory) is raised by the first call.
    """

    def __init__(self, spec: ModelSpec, *, base: Path | None = None) -> None:
        if problem := _problem(spec.options):
            raise BadInput(f"{spec.use}: {problem}")
        for part in ("torch", "transformers"):
            if importlib.util.find_spec(part) is None:
                raise NotInstalled(f"{spec.use}: a local model needs {part}; {weights.LOCAL_PIP}")
        self.spec = spec
        self.form: Form = spec.form
        self.can = Can(logprobs=True, schema=importlib.util.find_spec("llguidance") is not None)
        self.concurrency = spec.concurrency or 4 * spec.batch_size
        self._base = base
        self._found = weights.find(spec.target, base)
        self.name = self._found.name
        self._inbox: list[tuple[Call, Future[Reply]]] = []
        self._bell = threading.Condition()
        self._closing = False
        self._broken: SolonError | None = None
        self._thread: threading.Thread | None = None

    @functools.cached_property
    def identity(self) -> str:
        """Return what the ledger knows it by. Needs no weights, and no torch on a machine without a GPU."""
        if self.spec.identity:
            return self.spec.identity
        content = {"weights": self._found.digest, "dtype": self._device_and_dtype()[1]}
        if self.spec.context:
            content["context"] = str(self.spec.context)
        return f"local:{self.name}#{tagged('solon.local/1', content)[:16]}"

    async def __call__(self, call: Call) -> Reply:
        """Answer `call`. Raises CallFailed (too_long, rejected_call, no_answer), and what loading raised."""
        future: Future[Reply] = Future()
        with self._bell:
            if self._broken is not None:
                raise self._broken
            if self._closing:
                raise CallFailed("no_answer", f"{self.name} was closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"solon {self.name}", daemon=True)
                self._thread.start()
            self._inbox.append((call, future))
            self._bell.notify()
        return await asyncio.wrap_future(future)

    async def close(self) -> None:
        """Stop the thread and free the model; calls that still wait fail."""
        with self._bell:
            self._closing = True
            self._bell.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    # ------------------------------------------------------------------ the thread

    def _work(self) -> None:
        worker: Worker | None = None
        ending: SolonError = CallFailed("no_answer", f"{self.name} was closed")
        try:
            worker = self._load()
            while self._take(worker):
                worker.turn()
        except SolonError as error:
            ending = self._broken = error
        except BaseException as error:
            ending = self._broken = Halt(f"{self.name}: {words_of(error)}")
            raise
        finally:
            with self._bell:
                left, self._inbox = self._inbox, []
                self._closing = True
            for _, future in left:
                with contextlib.suppress(InvalidStateError):  # its asker went away
                    future.set_exception(ending)
            if worker is not None:
                worker.fail(ending)
            del worker
            gc.collect()
            if "torch" in sys.modules:
                sys.modules["torch"].cuda.empty_cache()

    def _take(self, worker: Worker) -> bool:
        """Hand new calls to the worker, waiting for one where it is idle; False when the model is closed."""
        with self._bell:
            while not (self._inbox or self._closing or worker.busy()):
                self._bell.wait()
            if worker.gathers():
                started = time.monotonic()
                while len(self._inbox) < worker.width and time.monotonic() - started < PATIENCE:
                    if self._closing or not self._bell.wait(QUIET):
                        break
            arrived, self._inbox = self._inbox, []
            closing = self._closing
        worker.take(arrived)
        return not closing

    def _load(self) -> Worker:
        found = weights.resolve(self.spec.target, self._base)
        if found.digest != self._found.digest:
            raise Halt(f"{found.source}: its files changed since the run was planned; start again")
        device, dtype = self._device_and_dtype()
        weights.prepare_torch()
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from solon.models.worker import Worker

        try:
            with weights.quiet():
                tokenizer = AutoTokenizer.from_pretrained(found.path)
                model = AutoModelForCausalLM.from_pretrained(found.path, dtype=getattr(torch, dtype))
                model = model.to(device).eval()
        except (MemoryError, torch.OutOfMemoryError) as error:
            remedy = "take a smaller model, or dtype bfloat16"
            raise Halt(f"{found.source}: not enough memory on {device} for it in {dtype}; {remedy}") from error
        except ImportError as error:
            raise NotInstalled(f"{found.source}: {words_of(error)}; {weights.LOCAL_PIP}") from error
        except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
            raise Halt(f"{found.source}: transformers cannot load it ({words_of(error)})") from error
        if self.form == "chat" and not tokenizer.chat_template:
            raise BadInput(f"{found.source}: has no chat template; write `form: text` for a base model")
        steady = device == "cpu" if self.spec.steady is None else self.spec.steady
        try:
            return Worker(
                model,
                tokenizer,
                name=self.name,
                batch=self.spec.batch_size,
                context=self.spec.context,
                steady=steady,
                problem=_problem,
            )
        except ArithmeticError as error:
            raise Halt(f"{found.source}: {words_of(error)}") from error

    def _device_and_dtype(self) -> tuple[str, str]:
        """Return ("cpu" or "cuda", a torch dtype's name) with "auto" decided."""
        device, dtype = self.spec.device, self.spec.dtype
        if device == "cuda" or (device == "auto" and _may_have_gpu()):
            weights.prepare_torch()
            import torch

            seen = torch.cuda.is_available()
            if device == "cuda" and not seen:
                raise BadInput(f"{self.spec.use}: device cuda, but torch sees no GPU here; write device: auto")
            if seen:
                half = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
                return "cuda", half if dtype == "auto" else dtype
        return "cpu", "float32" if dtype == "auto" else dtype


def _may_have_gpu() -> bool:
    """Return False where there can be none, so that torch need not be asked: importing it takes seconds."""
    return sys.platform not in ("linux", "darwin") or any(Path(file).exists() for file in GPU_FILES)


def _problem(options: Mapping[str, Any]) -> str | None:
    """Return what is wrong with provider options, in a few words, or None."""
    for name, value in options.items():
        if name not in OPTIONS:
            return f"unknown option {name!r}; a local model knows {', '.join(OPTIONS)}"
        wanted, fits = OPTIONS[name]
        if not fits(value):
            return f"option {name}: {value!r} is not {wanted}"
    return None


def _number(it: Any) -> bool:
    return isinstance(it, int | float) and not isinstance(it, bool)
