"""Everything that Solon raises on purpose.

    SolonError                 one line for people, and an exit code
    ├── BadInput          (2)  a file or a flag of the user's; carries every problem, each "file:line: what; remedy"
    ├── NotInstalled      (2)  an extra that this command needs
    ├── Halt              (3)  no later call can fare better: wrong key, unknown model, no credit, nobody listens
    │   └── RefusedParameter   this model does not take a parameter that it was sent
    ├── StorageError      (4)  ledger or run folder cannot be read or written: full, read-only, newer, damaged
    ├── Locked            (5)  another run walks this folder
    ├── OverBudget        (6)  the next call may cost more than the budget has left
    └── Aside                  one row ends without a pair; `reason` is one of REASONS
        ├── Parked             ... for now: its call waits for a provider's batch job
        └── CallFailed         a call got no usable answer: never remembered, so it may be asked again
            └── Passing        ... and asking again soon may help; `retry_after` in seconds, if the provider said so

Exit code 1 is kept for "done, and the answer is no": `check` found mistakes, a run ended without a single pair; 7 for
a run that is done but for rows whose calls failed (`FAILED_ROWS`): the same command walks them again.

Adding one: derive from the nearest class here, write a message that names the value, the place and the remedy,
and, where it sets rows aside, add its reason to REASONS.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "FAILED_ROWS",
    "REASONS",
    "Aside",
    "BadInput",
    "CallFailed",
    "Halt",
    "Locked",
    "NotInstalled",
    "OverBudget",
    "Parked",
    "Passing",
    "RefusedParameter",
    "SolonError",
    "StorageError",
]

REASONS: dict[str, str] = {
    "empty_answer": "the model answered nothing, or only white space",
    "cut_answer": "the answer hit max_tokens and was cut",
    "refused": "the provider declined to answer, or filtered the answer",
    "repetition": "the answer repeats itself without end",
    "too_long": "the prompt does not fit into the model's context",
    "no_answer": "no answer after all retries",
    "unreadable_answer": "the server's answer was not what its protocol promises",
    "rejected_call": "the provider rejected this one request",
    "judge_silent": "the judge did not say which is better",
    "judge_refused": "the judge declined to compare",
    "tie": "the judge finds both equally good",
    "unchanged": "the revision equals the answer it revises",
    "equal_candidates": "the candidates are the same text",
    "not_known": "a call of this row is not in the ledger, and nothing was to be asked",
    "parked": "a call of this row waits for a batch job",
}
"""Why a row can end without a pair, each with the sentence that people read."""


FAILED_ROWS = 7
"""The exit code of a run that is done, but for rows that were set aside because a call failed."""


class SolonError(Exception):
    """Base of all; `str()` is one or more clear lines, `exit_code` what the command line returns."""

    exit_code = 1

    @property
    def problems(self) -> tuple[str, ...]:
        """Return what is wrong, a line each."""
        return (str(self),)


class BadInput(SolonError):
    """What the user gave cannot be used. `problems` holds every mistake found, not just the first."""

    exit_code = 2

    def __init__(self, problems: str | Iterable[str]) -> None:
        self._problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self._problems))

    @property
    def problems(self) -> tuple[str, ...]:
        return self._problems


class NotInstalled(SolonError):
    """A part that this command needs is not installed; the message names the pip command."""

    exit_code = 2


class Halt(SolonError):
    """The run stops at once: no later call could fare better until a person acts. What is finished is kept."""

    exit_code = 3


class RefusedParameter(Halt):
    """This model does not take a parameter that it was sent; `parameter` is its name where the server tells."""

    def __init__(self, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class StorageError(SolonError):
    """The ledger or the run folder cannot be read or written."""

    exit_code = 4


class Locked(SolonError):
    """Another process walks this run folder."""

    exit_code = 5


class OverBudget(SolonError):
    """The next call may cost more than the budget has left, and nothing is in flight any more. All is kept."""

    exit_code = 6


class Aside(SolonError):
    """This row ends without a pair. Crafts and stories raise it; the run records and counts it."""

    def __init__(self, reason: str, detail: str = "") -> None:
        if reason not in REASONS:
            raise ValueError(f"unknown reason {reason!r}; choose from {sorted(REASONS)}")
        self.reason = reason
        self.detail = detail
        super().__init__(f"{REASONS[reason]}{': ' + detail if detail else ''}")

    def __reduce__(self) -> tuple[type[Aside], tuple[str, str], dict[str, object]]:
        # the default would call the class with the message alone
        return type(self), (self.reason, self.detail), self.__dict__


class Parked(Aside):
    """The call waits for a provider's batch job; its row is walked again, from memory, when that has come back."""

    def __init__(self, detail: str = "") -> None:
        super().__init__("parked", detail)

    def __reduce__(self) -> tuple[type[Parked], tuple[str], dict[str, object]]:  # type: ignore[override]
        return type(self), (self.detail,), self.__dict__


class CallFailed(Aside):
    """A call got no usable answer. The ledger does not remember it.

    billed: its last attempt may have been billed all the same (nobody heard the answer, or could read it)
    """

    billed = False


class Passing(CallFailed):
    """A failure that may pass: too many requests, a broken connection, a server error, an unreadable body.

    Args:
        reason, detail: as in Aside.
        retry_after: seconds that the provider asked us to wait, or None.
        throttled: True for "too many requests": everybody who asks this model should wait, not just this call.
        billed: True where the provider may bill this attempt although it gave no usable answer.
    """

    def __init__(
        self,
        reason: str,
        detail: str = "",
        *,
        retry_after: float | None = None,
        throttled: bool = False,
        billed: bool = False,
    ) -> None:
        super().__init__(reason, detail)
        self.retry_after = retry_after
        self.throttled = throttled
        self.billed = billed
