"""Rules that would explain a label, proposed by a model, and the few candidates that they come down to.

    proposal = await propose(cast.critic, pair)           # up to three rules, or why there are none
    cluster([proposal, ...], seed=0, most=20)             # one candidate for each group of rules that say the same

The first steps of inverse constitutional AI (Findeis et al. 2024, arXiv 2406.06560: generate, cluster, subsample).
The paper clusters embeddings; here words are compared, so that no second model is needed. What words cannot tell
apart the votes do: of two rules that decide the same pairs, the second adds nothing and is not chosen.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from solon.calls import Message
from solon.cast import Player
from solon.digests import tagged, uniform, whole
from solon.errors import Aside
from solon.judges.pairwise import compare
from solon.markup import STOPS, ask_for, turn
from solon.review.infer.preferences import Preference

__all__ = ["ALIKE", "MOST_RULES", "Candidate", "Proposal", "cluster", "propose", "read_rules"]

MOST_RULES = 3
"""Rules that are read from one answer; what a model adds after them it was not asked for."""
ALIKE = 0.7
"""Rules whose words are alike by this much on average (token set ratio, 0 to 1) are one candidate."""
LEAST_CHARS, MOST_CHARS = 8, 300


@dataclass(frozen=True)
class Proposal:
    """What a model said about one pair.

    rules:    the rules that can be used, at most three
    problem:  why there are none: a reason of `solon.errors.REASONS`, "none" (it saw no rule) or "no_rule" (it wrote
              nothing that could be one); "" where there are some
    unusable: lines that are no rule, by what is wrong with them
    """

    pair: Preference
    rules: tuple[str, ...]
    problem: str = ""
    unusable: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Candidate:
    """A rule to be voted by, and the proposals that it stands for.

    support:  pairs from which it was proposed
    wordings: other words for it, the most frequent first
    """

    text: str
    support: int
    wordings: tuple[str, ...] = ()


async def propose(proposer: Player, pair: Preference) -> Proposal:
    """Ask which general rules would explain why this pair's chosen answer was preferred. Raises Halt."""
    nonce = tagged("solon.fence/1", sorted((pair.first, pair.second)))[:12]
    wording = PROPOSE.replace("{preferred}", "A" if pair.first_wins else "B")
    question = compare("chat", pair.prompt.messages, pair.first, pair.second, wording, nonce)
    chat = proposer.form == "chat"
    asked = Message("user", question) if chat else Message("text", turn("Human", question) + ask_for("Assistant"))
    try:
        said = await proposer([asked], step="propose", stop=() if chat else STOPS)
    except Aside as problem:
        return Proposal(pair, (), problem.reason)
    if said.reply.finish == "length":  # whatever `cut` makes of other answers: half a rule is another rule
        return Proposal(pair, (), "cut_answer")
    if _NONE.fullmatch(said.text):
        return Proposal(pair, (), "none")
    rules, unusable = read_rules(said.text)
    return Proposal(pair, rules, "" if rules else "no_rule", unusable)


def read_rules(text: str) -> tuple[tuple[str, ...], Counter[str]]:
    """Return the rules that an answer lists (as lines, bullets, numbers or JSON), and what else stood there.

    Where some lines are items of a list, only those are rules; else every line is, except one that introduces others.
    """
    rules: dict[str, None] = {}
    unusable: Counter[str] = Counter()
    for line in _listed(whole(text)):
        rule = " ".join(line.replace("**", "").replace("__", "").split()).strip(" \"'“”‘’`,")
        if not any(map(str.isalpha, rule)):
            continue
        wrong = _wrong(rule)
        if wrong:
            unusable[wrong] += 1
        else:
            rules[rule] = None
    return tuple(rules)[:MOST_RULES], unusable


def _wrong(rule: str) -> str:
    if len(rule) < LEAST_CHARS:
        return "too short"
    if len(rule) > MOST_CHARS:
        return "too long"
    return "speaks of this pair alone" if _THIS_PAIR.search(rule) else ""


def _listed(text: str) -> Iterator[str]:
    fenced = _FENCED.search(text)
    try:
        value = json.loads(fenced["inside"] if fenced else text)
    except (ValueError, RecursionError):
        lines = [line for line in (fenced["inside"] if fenced else text).splitlines() if line.strip()]
        items = [line[mark.end() :] for line in lines if (mark := _ITEM.match(line))]
        yield from items or [line for line in lines if not line.rstrip().endswith((":", "："))]
    else:
        yield from _texts(value, 0)


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list) and depth < 4:
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each, depth + 1)


def cluster(proposals: Sequence[Proposal], *, seed: int, most: int) -> list[Candidate]:
    """Return at most `most` candidates, the one with the greatest support first; equal support is decided by hash.

    Average linkage over 1 - token set ratio of the words that carry the sense; each group speaks through its medoid.
    A token set ratio takes "do not be polite" for "be polite", so rules of which one denies are never alike.
    """
    pairs: dict[str, set[str]] = {}
    for proposal in proposals:
        for rule in proposal.rules:
            pairs.setdefault(rule, set()).add(proposal.pair.id)
    texts = sorted(pairs)
    if not texts:
        return []
    apart = _distances(texts)
    groups: dict[int, list[int]] = {}
    for place, group in enumerate(_linked(apart)):
        groups.setdefault(group, []).append(place)
    found = []
    for places in groups.values():

        def far(place: int, places: list[int] = places) -> float:
            return round(sum(apart[place][other] * len(pairs[texts[other]]) for other in places), 6)

        # the medoid; of equals the one more often proposed, then the shorter
        medoid = min(places, key=lambda place: (far(place), -len(pairs[texts[place]]), len(texts[place]), texts[place]))
        others = sorted(set(places) - {medoid}, key=lambda place: (-len(pairs[texts[place]]), texts[place]))
        support = len(set().union(*(pairs[texts[place]] for place in places)))
        found.append(Candidate(texts[medoid], support, tuple(texts[place] for place in others)))
    found.sort(key=lambda each: (-each.support, uniform("solon.candidate/1", seed, each.text)))
    return found[:most]


def _distances(texts: Sequence[str]) -> Any:
    """Return how far rules are apart: (n, n) floats in [0, 1]."""
    import numpy as np
    from rapidfuzz import fuzz, process

    contents = [_content(text) for text in texts]
    apart = 1.0 - process.cdist(contents, contents, scorer=fuzz.token_set_ratio, dtype=np.float32) / 100.0
    denies = np.array([bool(_DENIES.search(text)) for text in texts])
    apart[denies[:, None] != denies[None, :]] = 1.0
    np.fill_diagonal(apart, 0.0)
    return apart


def _linked(apart: Any) -> list[int]:
    if len(apart) < 2:
        return [1]
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    tree = linkage(squareform(apart, checks=False), method="average")
    return [int(group) for group in fcluster(tree, t=1.0 - ALIKE, criterion="distance")]


def _content(text: str) -> str:
    words = re.findall(r"[^\W_]+(?:['’][^\W_]+)?", text.lower())
    return " ".join([word for word in words if word not in _COMMON] or words)


# Words that nearly every rule has: with them, "give a long answer" and "give a short answer" are alike.
_COMMON = frozenset(
    """
    a an and answer answers any are as ask asked asks assistant at be best better by can do does for from give gives
    good how human human's if in into is it its make makes must of on one or out over person prefer prefers provide
    provides question questions reply request response responses should so such than that the their them they this
    to use user user's users uses way what when where which who whose will with write writes you your
    """.split()  # noqa: SIM905, nobody reads a list of a hundred quoted words
)
_DENIES = re.compile(
    r"\b(?:not|never|no|none|nor|cannot|avoid|avoids|avoiding|without|refrain|stop|less|fewer|rather than|instead of)\b"
    r"|n['’]t\b",
    re.IGNORECASE,
)
_ITEM = re.compile(
    r"^[\s>]*(?:[-*+•‣◦·–—](?=\s)|\**(?:rule|principle)?\s*\(?\d{1,2}[.):]\**|\(?[a-c][.)](?=\s)|\**(?:rule|principle)\s*:)"
    r"[\s*]*",
    re.IGNORECASE,
)
_FENCED = re.compile(r"```\w*\n(?P<inside>.*?)(?:```|\Z)", re.DOTALL)
_THIS_PAIR = re.compile(
    r"\b(?:responses?|answers?|options?|candidates?)\s+\(?(?-i:[AB])\b"
    r"|\b(?:first|second|chosen|rejected|preferred|winning|losing|other)\s+(?:response|answer|option|candidate)\b"
    r"|\b(?-i:[AB])\s+(?:is|was|does|did|has|gives|and|or)\b",
    re.IGNORECASE,
)
_NONE = re.compile(r"\W*(?:none|no rules?|nothing)\W*", re.IGNORECASE)

PROPOSE = """\
Somebody read both responses and preferred response {preferred}. Which general rules about how to answer would \
explain that choice? Write down at most three, the likeliest first, one rule a line and nothing else.

Each rule is one or two short sentences that tell an assistant what to do. It speaks of the manner or the content of \
answers in general, so that it can be applied to any other conversation: it names neither the topic of this one nor \
response A or response B. If nothing about the responses explains the choice, write the word none."""
