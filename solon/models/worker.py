"""What the one thread of a local model does: calls become tokens, tokens are computed together, and become replies.

A call with labels is a question: answered in one pass. Any other call is a row: admitted into a batch, written token
by token, handed back as soon as it ends. `turn` does one small piece of that, so that between two pieces new calls
come in, cancelled ones go, and the model can be closed.

A call that cannot be answered fails alone; a step that fails takes the rows of its batch with it, and the next batch
starts afresh.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

from solon.calls import Call, Reply, Usage
from solon.complaints import words_of
from solon.errors import CallFailed, SolonError
from solon.models.batches import Engine, Padded, Question
from solon.models.decode import Row, Taste, answer_text, end_tokens
from solon.models.grammar import Grammar, Grammars
from solon.models.slots import Slots, bears_slots
from solon.models.thinking import split_thinking
from solon.models.weights import LOCAL_PIP

__all__ = ["Worker"]

PATIENCE = 4  # batches' worth of calls that may go before one that waits
FAULTS = (RuntimeError, ArithmeticError, ValueError, IndexError, KeyError, TypeError, MemoryError)
"""What torch and transformers raise over one batch or one text; anything else ends the thread."""


@dataclass(eq=False, slots=True)
class Job:
    """A call that waits; once read it is a row to write or a question of labels.

    thinks: the template has already opened the thinking part.
    passed: how often another went before it.
    """

    call: Call
    future: Future[Reply]
    row: Row | None = None
    question: Question | None = None
    thinks: bool = False
    passed: int = 0

    def fail(self, error: SolonError) -> None:
        with contextlib.suppress(InvalidStateError):  # its asker went away in this very moment
            self.future.set_exception(error)

    def answer(self, reply: Reply) -> None:
        with contextlib.suppress(InvalidStateError):
            self.future.set_result(reply)


class Worker:
    """The model, the calls in its hands, and what to do next. Lives in one thread.

    Args:
        model, tokenizer: of transformers, loaded.
        name: what errors and replies call it.
        batch: most rows at once.
        context: most tokens of prompt and answer together, None for the model's own.
        steady: whether an answer must not depend on its neighbours.
        problem: says what is wrong with the options of a call, None if nothing.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        batch: int,
        context: int | None,
        steady: bool,
        problem: Callable[[Mapping[str, Any]], str | None],
    ) -> None:
        self.model, self.tokenizer, self.name, self.problem = model, tokenizer, name, problem
        self.ends = end_tokens(tokenizer, model.generation_config)
        self.grammars = Grammars(tokenizer, model.config.get_text_config().vocab_size, self.ends)
        most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.context = min(context or sys.maxsize, most or sys.maxsize)
        slots = steady and bears_slots(model, tokenizer)
        self.width = batch if slots or not steady else 1
        self._kind: type[Slots] | type[Padded] = Slots if slots else Padded
        self.engine: Engine = self._kind(model, tokenizer, self.width)
        self.asking: deque[Job] = deque()
        self.waiting: deque[Job] = deque()
        self.writing: list[Job] = []

    def busy(self) -> bool:
        return bool(self.asking or self.waiting or self.writing)

    def gathers(self) -> bool:
        """Return whether a little patience makes a fuller batch."""
        return not self.engine.steady and not self.writing

    def take(self, calls: Iterable[tuple[Call, Future[Reply]]]) -> None:
        """Accept new calls; one that cannot be asked of this model fails here."""
        for call, future in calls:
            job = Job(call, future)
            try:
                self._read(job)
            except SolonError as error:
                job.fail(error)
            except FAULTS as error:
                job.fail(CallFailed("rejected_call", f"{self.name}: {words_of(error)}"))
            else:
                (self.asking if job.question else self.waiting).append(job)

    def turn(self) -> None:
        """Do one piece of work: the short ones first, so that their rows can go on and batches fill."""
        self._forget_cancelled()
        if self.asking:
            self._score()
        elif self.waiting and self.engine.free():
            self._admit()
        elif self.writing:
            self._step()

    def fail(self, error: SolonError) -> None:
        """Fail every call in hand."""
        for job in [*self.asking, *self.waiting, *self.writing]:
            job.fail(error)

    # ------------------------------------------------------------------ one piece of work

    def _score(self) -> None:
        some = [self.asking.popleft() for _ in range(min(1 if self.engine.steady else self.width, len(self.asking)))]
        questions = [job.question for job in some if job.question]
        try:
            scores = self.engine.score(questions)
        except FAULTS as error:
            self._fault(some, error)
            return
        for job, question, values in zip(some, questions, scores, strict=True):
            likeliest = job.call.labels[max(range(len(values)), key=values.__getitem__)]
            usage = Usage(input=len(question.prompt))
            job.answer(Reply(likeliest, logprobs=tuple(values), usage=usage, model=self.name))

    def _admit(self) -> None:
        some = self._next()
        try:
            self.engine.admit([job.row for job in some if job.row])
        except FAULTS as error:
            self._fault(some, error)
            return
        self.writing += some
        self._hand_out()

    def _next(self) -> list[Job]:
        """Take the calls that are admitted now from those that wait."""
        if self.engine.steady:
            # whoever's prompt is known furthest: a row's next call, while what it shares with the last is remembered
            some = [max(self.waiting, key=lambda job: self.engine.known(job.row.prompt) if job.row else 0)]
            if self.waiting[0].passed >= PATIENCE * self.width:
                some = [self.waiting[0]]
        else:
            # the first comer, and who is most like it in length of prompt and room: less padding, fewer idle steps
            first = self.waiting[0]
            some = sorted(self.waiting, key=lambda job: _distance(first, job))[: self.engine.free()]
        if self.waiting[0] not in some:
            self.waiting[0].passed += 1
        self.waiting = deque(job for job in self.waiting if job not in some)
        return some

    def _step(self) -> None:
        try:
            self.engine.step()
        except FAULTS as error:
            self._fault(self.writing, error)
            self.writing = []
            self.engine = self._kind(self.model, self.tokenizer, self.width)
            return
        self._hand_out()

    def _hand_out(self) -> None:
        """Answer the calls whose rows have ended."""
        still: list[Job] = []
        for job in self.writing:
            row = job.row
            if row is None or row.finish is None:
                still.append(job)
                continue
            self.engine.drop(row)
            text = answer_text(row, self.tokenizer)
            thinking, answer = split_thinking(f"<think>{text}" if job.thinks else text)
            thought = len(self._tokens(thinking, special=False)) if thinking else 0
            usage = Usage(input=len(row.prompt), output=len(row.tokens), thinking=min(thought, len(row.tokens)))
            job.answer(Reply(answer, finish=row.finish, thinking=thinking, usage=usage, model=self.name))
        self.writing = still

    def _fault(self, jobs: Iterable[Job], error: Exception) -> None:
        memory = isinstance(error, MemoryError) or "memory" in str(error)
        remedy = f"; batches of {self.width} rows: set `batch_size` lower" if memory else ""
        for job in jobs:
            job.fail(CallFailed("no_answer", f"{self.name}: {words_of(error)}{remedy}"))

    def _forget_cancelled(self) -> None:
        for job in self.writing:
            if job.future.cancelled() and job.row:
                self.engine.drop(job.row)
        self.writing = [job for job in self.writing if not job.future.cancelled()]
        self.asking = deque(job for job in self.asking if not job.future.cancelled())
        self.waiting = deque(job for job in self.waiting if not job.future.cancelled())

    # ------------------------------------------------------------------ a call becomes tokens

    def _read(self, job: Job) -> None:
        """Turn the job's call into a row or a question. Raises CallFailed."""
        call = job.call
        options = json.loads(call.options)
        if problem := self.problem(options):
            raise CallFailed("rejected_call", f"{self.name}: {problem}")
        raw = len(call.messages) == 1 and call.messages[0].role == "text"
        if raw:
            text = call.messages[0].content
        else:
            text = self._rendered(call, options.get("chat_template_kwargs", {}))
            job.thinks = text.rstrip().endswith("<think>")
            if job.thinks and call.schema is not None:
                # a template that opens the thinking part leaves no place for JSON: an empty thought, as templates
                # write it that were told not to think
                job.thinks, text = False, f"{text.rstrip()}\n\n</think>\n\n"
        prompt = self._tokens(text, special=raw)
        labels = tuple(self._label(text, prompt, label, raw) for label in call.labels)
        longest = max((len(label) for label in labels), default=1)
        room = min(self.context - len(prompt), call.sampling.max_tokens if not labels else sys.maxsize)
        if not prompt or not all(labels):
            raise CallFailed("rejected_call", f"{self.name}: an empty {'label' if prompt else 'prompt'} has no tokens")
        if room < longest:
            raise CallFailed(
                "too_long", f"{len(prompt)} tokens, and {self.name} has {self.context} for prompt and answer"
            )
        if labels:
            job.question = Question(tuple(prompt), labels)
            return
        taste = Taste.of(call.sampling, options, self.model.generation_config)
        grammar = None if call.schema is None else self._grammar(call.schema)
        job.row = Row(prompt, room, call.key, taste, self.ends, call.sampling.stop, grammar)

    def _grammar(self, schema: str) -> Grammar:
        if importlib.util.find_spec("llguidance") is None:
            raise CallFailed("rejected_call", f"{self.name}: a local model keeps a schema by llguidance; {LOCAL_PIP}")
        return self.grammars.of(schema)

    def _tokens(self, text: str, *, special: bool) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=special)["input_ids"])

    def _label(self, text: str, prompt: list[int], label: str, raw: bool) -> tuple[int, ...]:
        """Return the tokens of `label` behind the prompt: as in one text where that leaves the prompt's tokens alone.

        Where the joint text would merge the two ("(" and "A" to "(A"), the label's own tokens: those are what the
        model could say next.
        """
        if raw:
            joint = self._tokens(text + label, special=True)
            if joint[: len(prompt)] == prompt and len(joint) > len(prompt):
                return tuple(joint[len(prompt) :])
        return tuple(self._tokens(label, special=False))

    def _rendered(self, call: Call, switches: dict[str, Any]) -> str:
        """Return the conversation in the model's chat template, up to where the answer begins.

        A template without a system role gets the system text at the head of the first user turn.
        """
        turns = [{"role": message.role, "content": message.content} for message in call.messages]
        begun = turns[-1]["role"] == "assistant"  # the answer's beginning is given: the model goes on from there
        render = functools.partial(
            self.tokenizer.apply_chat_template,
            tokenize=False,
            add_generation_prompt=not begun,
            continue_final_message=begun,
            **switches,
        )
        try:
            text: str = render(turns)
            system = turns[0]["content"].strip() if turns[0]["role"] == "system" else ""
            if system in text:
                return text
        except TemplateError as error:
            if turns[0]["role"] != "system":
                raise CallFailed(
                    "rejected_call", f"{self.name}: its chat template refuses: {words_of(error)}"
                ) from error
        try:
            return render(_folded(turns))
        except TemplateError as error:
            raise CallFailed("rejected_call", f"{self.name}: its chat template refuses: {words_of(error)}") from error


def _distance(first: Job, other: Job) -> int:
    """Return by how many tokens a batch grows where `other` joins `first`, in prompt and answer."""
    if first.row is None or other.row is None:
        return 0
    return abs(len(first.row.prompt) - len(other.row.prompt)) + abs(first.row.room - other.row.room)


def _folded(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    system, rest = turns[0]["content"], [dict(turn) for turn in turns[1:]]
    if rest and rest[0]["role"] == "user":
        rest[0]["content"] = f"{system}\n\n{rest[0]['content']}"
        return rest
    return [{"role": "user", "content": system}, *rest]
