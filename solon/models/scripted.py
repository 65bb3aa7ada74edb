"""A model that says what it was told to say: for tests, for documentation, for a run without any model.

    Scripted(lambda call: call.messages[-1].content.upper())             in Python
    scripted:replies.jsonl                                               in a recipe: a file of replies
    scripted:answers.py:answer                                           in a recipe: a function of a file

A file of replies has one JSON object a line; the first line that fits a call answers it:

    {"when": "wifi", "reply": "Ask your neighbour."}            `when`: stands in the call's last message ("" always)
    {"key": "c1:5f...", "reply": "..."}                         `key`: is the call's key
    {"when": "Which is better", "logprobs": {"A": -0.1, "B": -2.4}}
    {"when": "poem", "reply": "Roses are", "finish": "length", "thinking": "..."}

It is asked once for each call and never again: its failures do not pass. Its identity holds a version, so that an
edited script is another model: the digest of the file, or `VERSION` where the module of a function declares it. A
module may also declare `LOGPROBS = True` and `SCHEMA = True` where its function answers calls with labels or schemas.
Tokens are counted as words.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import inspect
import json
import math
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from textwrap import shorten
from types import ModuleType
from typing import Any, cast

from solon import yamls
from solon.calls import Call, Can, Form, Reply, Usage
from solon.errors import BadInput, CallFailed, Halt, SolonError
from solon.models.spec import ModelSpec

__all__ = ["Scripted"]

Answer = str | Reply | Mapping[str, float]
"""Words, a whole reply, or the probability of each label."""

CONCURRENCY = 64
WORDS_ALONE = Can(logprobs=False, schema=False)
LINE_KEYS = ("when", "key", "reply", "logprobs", "thinking", "finish")


class Scripted:
    """A model out of a function of the Call (`solon.calls.Model`), sync or async.

    Args:
        reply: returns words, a Reply, or for a call with labels a mapping of label to probability; or raises.
        name, version: the identity is "scripted:<name>@<version>"; a function that answers differently is another
            version.
        form, can: as in Model. By default it gives neither log-probabilities nor structured answers.
        concurrency: most calls answered at once.
        delay: seconds that each answer takes.

    `asked` counts the calls that it was asked.
    """

    def __init__(
        self,
        reply: Callable[[Call], Answer | Awaitable[Answer]],
        *,
        name: str = "scripted",
        version: str = "1",
        form: Form = "chat",
        can: Can = WORDS_ALONE,
        concurrency: int = CONCURRENCY,
        delay: float = 0.0,
    ) -> None:
        self.identity = f"scripted:{name}@{version}"
        self.name = name
        self.form: Form = form
        self.can = can
        self.concurrency = concurrency
        self.asked = 0
        self._reply = reply
        self._delay = delay
        self._turns = asyncio.Semaphore(concurrency)

    @classmethod
    def open(cls, spec: ModelSpec, base: Path | None = None) -> Scripted:
        """Return the model of a recipe's "scripted:..."; its file is looked up under `base`.

        Raises BadInput for a file that is not there or cannot be used, with every mistake as file:line.
        """
        file, colon, function = spec.target.rpartition(":")
        if spec.target.endswith(".jsonl"):
            path = _found(spec, Path(spec.target), base)
            lines = _read_lines(path)
            reply: Callable[[Call], Any] = partial(_first_fit, lines, path)
            can = Can(logprobs=any("logprobs" in line for line in lines), schema=False)
            name, version = path.name, _digest(path)
        elif colon and file.endswith(".py"):
            path = _found(spec, Path(file), base)
            module, version = _load(path)
            reply = _guarded(_function(module, function, path), path)
            can = Can(bool(getattr(module, "LOGPROBS", False)), bool(getattr(module, "SCHEMA", False)))
            name = f"{path.stem}:{function}"
        else:
            raise BadInput(f"{spec.use}: a scripted model is scripted:<replies.jsonl> or scripted:<file.py>:<function>")
        model = cls(
            reply, name=name, version=version, form=spec.form, can=can, concurrency=spec.concurrency or CONCURRENCY
        )
        model.identity = spec.identity or model.identity
        return model

    async def __call__(self, call: Call) -> Reply:
        async with self._turns:
            self.asked += 1
            if self._delay:
                await asyncio.sleep(self._delay)
            answer = self._reply(call)
            if inspect.isawaitable(answer):
                answer = await answer
        return self._as_reply(answer, call)

    async def close(self) -> None:
        """Nothing is held open."""

    def _as_reply(self, answer: Any, call: Call) -> Reply:
        if isinstance(answer, Mapping):
            shares = [float(answer.get(label, 0.0)) for label in call.labels]
            likeliest = max(answer, key=lambda label: answer[label], default="")
            answer = Reply(likeliest, logprobs=tuple(math.log(share) if share > 0 else None for share in shares))
        if isinstance(answer, str):
            answer = Reply(answer)
        if not isinstance(answer, Reply):
            raise Halt(f"{self.name}: a script answers with text, a Reply or a mapping, not {type(answer).__name__}")
        usage = answer.usage if answer.usage != Usage() else _words(answer, call)
        return Reply(answer.text, answer.finish, answer.thinking, answer.logprobs, usage, answer.model or self.name)


def _words(reply: Reply, call: Call) -> Usage:
    thinking = len(reply.thinking.split())
    asked = sum(len(message.content.split()) for message in call.messages)
    return Usage(input=asked, output=len(reply.text.split()) + thinking, thinking=thinking)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _found(spec: ModelSpec, path: Path, base: Path | None) -> Path:
    path = yamls.located(path, base or Path())
    if not path.is_file():
        raise BadInput(f"{spec.use}: no file {path}; a relative path starts at the recipe's folder")
    return path


# -- a file of replies ---------------------------------------------------------------------------------------


def _read_lines(path: Path) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    problems: list[str] = []
    for number, raw in enumerate(path.read_bytes().splitlines(), start=1):
        if not raw.strip():
            continue
        try:
            line = json.loads(raw.decode("utf-8"))
        except ValueError as error:
            problems.append(f"{path}:{number}: not JSON in UTF-8: {error}")
            continue
        problem = _problem(line)
        if problem:
            problems.append(f"{path}:{number}: {problem}")
        else:
            lines.append(line)
    if not lines and not problems:
        problems.append(f'{path}:1: no replies; write lines such as {{"when": "", "reply": "Yes."}}')
    if problems:
        raise BadInput(problems)
    return lines


def _problem(line: Any) -> str | None:
    """Return what is wrong with one line of a file of replies, or None."""
    if not isinstance(line, dict):
        return f"a {type(line).__name__}; write an object with when and reply"
    unknown = sorted(set(line) - set(LINE_KEYS))
    if unknown:
        return f"unknown key {unknown[0]!r}; choose from {', '.join(LINE_KEYS)}"
    if ("when" in line) == ("key" in line):
        return 'give either when (words of the last message, "" for every call) or key'
    wrong = [name for name in ("when", "key", "reply", "thinking") if not isinstance(line.get(name, ""), str)]
    if wrong:
        return f"{wrong[0]} must be text, not {json.dumps(line[wrong[0]])}"
    if line.get("finish", "stop") not in ("stop", "length", "refusal"):
        return f"finish {line['finish']!r}; choose from stop, length, refusal"
    logs = line.get("logprobs")
    if logs is None:
        return None if "reply" in line and "logprobs" not in line else "give reply, or logprobs of the labels"
    if not isinstance(logs, dict) or not logs:
        return "logprobs must be an object of label and natural logarithm"
    high = [
        label for label, log in logs.items() if isinstance(log, bool) or not isinstance(log, (int, float)) or log > 0
    ]
    return f"logprobs of {high[0]!r} must be a number of at most 0, not {json.dumps(logs[high[0]])}" if high else None


def _first_fit(lines: list[dict[str, Any]], path: Path, call: Call) -> Reply:
    last = call.messages[-1].content
    for line in lines:
        if line["key"] == call.key if "key" in line else line["when"] in last:
            logs = line.get("logprobs") or {}
            return Reply(
                line.get("reply") or max(logs, key=lambda label: logs[label], default=""),
                finish=line.get("finish", "stop"),
                thinking=line.get("thinking", ""),
                logprobs=tuple(logs.get(label) for label in call.labels) if logs and call.labels else None,
            )
    raise CallFailed("no_answer", f"no line of {path} fits {shorten(last, 80, placeholder=' …')!r}")


# -- a function of a file ------------------------------------------------------------------------------------


def _load(path: Path) -> tuple[ModuleType, str]:
    """Return the module in `path`, run anew, and its version."""
    digest = _digest(path)
    name = f"solon_scripted_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadInput(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # noqa: BLE001, whatever a user's file raises is told with its place
        del sys.modules[name]
        raise BadInput(f"{_place(error, path)}: {type(error).__name__}: {error}") from None
    return module, str(getattr(module, "VERSION", digest))


def _function(module: ModuleType, name: str, path: Path) -> Callable[[Call], Any]:
    found = getattr(module, name, None)
    if not callable(found):
        there = [n for n, value in vars(module).items() if inspect.isfunction(value) and not n.startswith("_")]
        raise BadInput(f"{path}: no function {name!r}; it has {', '.join(sorted(there)) or 'none'}")
    return cast(Callable[[Call], Any], found)


def _guarded(function: Callable[[Call], Any], path: Path) -> Callable[[Call], Awaitable[Any]]:
    """Return `function`, with a mistake in it told as one line with its place instead of a traceback."""

    async def answer(call: Call) -> Any:
        try:
            said = function(call)
            return await said if inspect.isawaitable(said) else said
        except SolonError:
            raise
        except Exception as error:  # noqa: BLE001, as above
            raise Halt(f"{_place(error, path)}: {type(error).__name__}: {error}") from None

    return answer


def _place(error: Exception, path: Path) -> str:
    """Return file:line, the last line of `path` on the way to `error`."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)
