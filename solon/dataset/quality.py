"""The numbers behind a dataset's labels: a few of every row, and their sums over all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from solon.rows import Pair, SetAside

__all__ = ["SUMS", "Numbers", "Quality"]


class Numbers(NamedTuple):
    """What tables and cards ask of one outcome; sums over these are the Quality of a dataset.

    reason is "" for a pair. judged says whether the judge answered both orders, same_slot whether the place that
    a text stood in (first, or second) won both times, whichever text stood there.
    """

    reason: str
    p_chosen: float | None
    chosen_draft: str | None
    chosen_chars: int
    rejected_chars: int
    drafts: int
    trimmed: int
    revisions: int
    stripped: int
    votes: int
    silent: int
    judged: bool
    same_slot: bool

    @classmethod
    def of(cls, outcome: Pair | SetAside) -> Numbers:
        pair = outcome if isinstance(outcome, Pair) else None
        revisions = [draft for draft in outcome.drafts if draft.name.startswith("revision")]
        said: dict[str, list[float]] = {"ab": [], "ba": []}
        for vote in outcome.votes:
            if vote.p_first is not None and vote.order in said:
                said[vote.order].append(vote.p_first - 0.5)
        forward, backward = sum(said["ab"]), sum(said["ba"])
        return cls(
            reason="" if isinstance(outcome, Pair) else outcome.reason,
            p_chosen=pair.p_chosen if pair else None,
            chosen_draft=pair.chosen_draft if pair else None,
            chosen_chars=len(pair.chosen) if pair else 0,
            rejected_chars=len(pair.rejected) if pair else 0,
            drafts=len(outcome.drafts),
            trimmed=sum(draft.trimmed for draft in outcome.drafts),
            revisions=len(revisions),
            stripped=sum(draft.stripped for draft in revisions),
            votes=len(outcome.votes),
            silent=sum(vote.p_first is None for vote in outcome.votes),
            judged=bool(said["ab"] and said["ba"]),
            # the story's first text won in first place and lost in second, or the other way round
            same_slot=bool(said["ab"] and said["ba"]) and forward * backward < 0,
        )


@dataclass(frozen=True, slots=True)
class Quality:
    """Counts over all outcomes, from which tables and cards take their shares.

    mean_p:              mean P(chosen is better) over the pairs, None without pairs
    chosen_drafts:       how many pairs chose each draft: {"response": 3, "revision.1": 9}
    drafts, trimmed:     all drafts, and those that lost an unfinished last sentence
    revisions, stripped: drafts named "revision...", and those that lost a meta-preamble
    votes, silent:       answers of the judge, and those that did not say
    judged, same_slot:   rows judged in both orders, and those where the place that a text stood in won both times
    chosen_chars, rejected_chars, chosen_longer: characters over all pairs, and pairs whose chosen text is longer
    """

    pairs: int
    mean_p: float | None
    chosen_chars: int
    rejected_chars: int
    chosen_longer: int
    drafts: int
    trimmed: int
    revisions: int
    stripped: int
    votes: int
    silent: int
    judged: int
    same_slot: int
    chosen_drafts: dict[str, int]

    @property
    def original_chosen(self) -> int:
        """Return how many pairs chose the first answer over its revision."""
        return self.chosen_drafts.get("response", 0)


SUMS = """
SELECT coalesce(sum(reason = ''), 0), avg(p_chosen), coalesce(sum(chosen_chars), 0),
    coalesce(sum(rejected_chars), 0), coalesce(sum(chosen_chars > rejected_chars), 0), coalesce(sum(drafts), 0),
    coalesce(sum(trimmed), 0), coalesce(sum(revisions), 0), coalesce(sum(stripped), 0), coalesce(sum(votes), 0),
    coalesce(sum(silent), 0), coalesce(sum(judged), 0), coalesce(sum(same_slot), 0)
FROM finished
"""
"""Read in the order of Quality's fields, all but the last, from the table that holds one Numbers a row."""
