"""The English words by which advice knows what a wording does: patterns and lists, and nothing that decides.

They were tried on every constitution that we have (docs/rules.md names them); what they miss costs less than what they
would accuse wrongly.
"""

from __future__ import annotations

import re

__all__ = [
    "ACCUSES", "COMPARES", "CURE", "EMPTY", "ENGLISH", "HARM", "OPEN", "PLAIN", "VALUES", "telling", "words_of",
]  # fmt: skip


def words_of(text: str) -> list[str]:
    """Return the words of a text in order, in small letters; "isn't" is "is not", "what's" is "what"."""
    plain = text.casefold().replace("’", "'").replace("n't", " not")
    return re.findall(r"\w+", re.sub(r"'s\b", "", plain))


def telling(text: str | None) -> list[str]:
    """Return the words of a text that tell it from others, sorted, each once; all its words where none does."""
    words = set(words_of(text or ""))
    return sorted(words - PLAIN or words)


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _pattern(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE)


# -- words that say little -------------------------------------------------------------------------------------------

PLAIN = _listed("""
    a an and any are as at be been being both but by can could did do does every for from had has have how i if in into
    is it its may might more most much must my of on one or other our out should so some such than that the their them
    then there these it they this those to too very was we were what when where which while who whom whose will with
    would you your less least fewer also all please always ai assistant assistants model human user person response
    responses answer answers reply last preceding choose pick consider principle rewrite write revise revision
""")
"""Words that nearly every wording has. Negations are not among them: they tell."""

VALUES = _listed("""
    good best better well right proper ethical ethically moral morally great nice virtuous virtue beneficial benefit
    humanity mankind humankind excellent
""")
"""Words of praise and of whom it is for, which name nothing that can be seen in a response."""

EMPTY = _listed("""
    act behave respond thing things way ways possible people everyone everybody world society humans users persons
    whatever overall really ever make makes try strive aim want ought not never anything bad worse wrong others entire
    whole interest interests value values prefer preferred select
""")
"""Words that may stand beside them without saying more."""

# -- comparing -------------------------------------------------------------------------------------------------------

ENGLISH = _pattern(r"\b(?:the|responses?|answers?|repl(?:y|ies))\b")
COMPARES = _pattern(
    r"\b(?:which\w*|choos\w+|pick|select|vote|prefer\w*|compar\w+|rank\w*|better|best|worse|worst|rather|both|either|"
    r"neither|each|other|two|between|wins?|loses?|favou?rs?|responses|answers|replies|candidates|options|completions|"
    r"outputs)\b",
    r"\bthe (?!(?:answer|user|reader|writer|speaker|asker|matter|paper|letter|order|test|rest|request|interest)\b)"
    r"(?:more|less|most|least|fewer|fewest|\w+er|\w+est)\b",
)
"""Words by which two responses are set against each other."""

# -- taking a fault for granted --------------------------------------------------------------------------------------

_WHO = r"\b(?:assistant|response|answer|reply|output|message|completion|it)"
# (no alternative may match what another does: a long run of such words would never end)
_LINK = (
    r"(?: (?:is|was|are|were|seems?|sounds?|may|might|could|can|would|has|have|had|be|been|being|considered|seen|as|"
    r"too|so|very|in (?:some|any) way|[a-z]+ly))* "
)
_FAULT = (
    r"(?:harmful|hurtful|unethical|immoral|racist|sexist|toxic|dangerous|illegal|offensive|biased|inappropriate|"
    r"insensitive|misleading|dishonest|false|inaccurate|incorrect|untrue|evasive|preachy|rude|condescending|sycophantic|"
    r"manipulative|unsafe|problematic|objectionable|controver[a-z]+|disrespectful|deceptive|unhelpful|unfair|unkind|wrong|"
    r"bad|flawed|hateful|discriminatory|misogyn[a-z]+|fail(?:s|ed)|violat(?:es|ed)|breaks|breaches|lacks|deceives|"
    r"flatters|ignores|falls short|goes against|contradicts|(?:does|did|is|was) not|(?:does|did|is|was)n['’]t)\b"
)
_POINT = (
    r"\b(?:identify|list|name|find|explain|describe|detail|enumerate|discuss|point out|show|highlight|specify|outline|"
    r"state|say|tell|give|expose|critici[sz]e|critique|note)\b"
)
ACCUSES = (
    # What's the strongest argument that the response was harmful?
    _pattern(rf"\bstrongest (?:argument|case)\b[^.!?;]{{0,40}}?{_WHO}{_LINK}{_FAULT}"),
    # Identify specific ways in which the response is harmful. Explain how it fails.
    _pattern(
        rf"{_POINT}[^.!?;]{{0,80}}?\b(?:how|ways?|why|where|what|aspects?|parts?|reasons?|respects?|that|because)\b"
        rf"[^.!?;]{{0,40}}?{_WHO}{_LINK}{_FAULT}"
    ),
    # What is wrong with the response?
    _pattern(rf"\bwhat(?:['’]s| is| was) (?:[a-z]+ly )?{_FAULT}"),
    # List the problems with the response.
    _pattern(
        rf"{_POINT} (?:(?:all|every|each|of|the|its|specific) ){{0,3}}(?:harms?|harmfulness|problems?|flaws?|mistakes?|"
        r"errors?|faults?|lies|bias|biases|toxicity|violations?|weaknesses|shortcomings|failings?) (?:in|of|with) "
        r"(?:the|this|its)\b"
    ),
    # The response is harmful: explain why.
    _pattern(rf"^(?:the|this) (?:[a-z]+(?:['’]s)? ){{0,3}}{_WHO}{_LINK}{_FAULT}"),
)
OPEN = _pattern(
    r"\b(?:whether|if|or not|anything|anywhere|none|nothing|to what (?:extent|degree)|where it (?:is|does)|how (?:well|"
    r"far|much|closely|fully|faithfully|honest[a-z]*|help[a-z]+))\b",
    rf"{_POINT} any\b",
    r"\bany (?:ways?|parts?|words?|passages?|harms?|problems?|flaws?|mistakes?|errors?|faults?)\b",
    r"(?:^|[.;:!?,]\s+|\band )(?:is|are|was|were|do|does|did|has|have|had|would|could|can|should|might|may)\s",
)
"""What lets a critic say that there is no fault."""

# -- harm, and the cure for too much fear of it ----------------------------------------------------------------------

HARM = _pattern(
    r"\b(?:harm(?!on|less)[a-z]*|danger[a-z]*|illegal[a-z]*|unlawful[a-z]*|crim(?:e|es|inal|inals)|violen[a-z]+|weapons?|"
    r"toxic[a-z]*|racis[a-z]+|sexis[a-z]+|hateful|unsafe|unethical[a-z]*|offensive[a-z]*)\b"
)
CURE = _pattern(
    # what nobody recommends
    r"\b(?:evas[a-z]+|evad[a-z]+|dodg[a-z]+|preach[a-z]*|lectur[a-z]+|morali[sz][a-z]+|sermons?|scold[a-z]*|rebuk[a-z]+|"
    r"condescend[a-z]*|over-?(?:ly|react[a-z]*|caut[a-z]*|refus[a-z]*)|accusator[a-z]+|judge?mental|unhelpful[a-z]*|"
    r"disclaimers?|boilerplate|withhold[a-z]*|alarmist|paternalis[a-z]+)\b",
    # helping, unless it is forbidden
    r"(?<!\bno )(?<!\bnot )(?<!\bnever )(?<!n't )(?<!\bwithout )\b(?:helpful[a-z]*|real help|better helped|of use|"
    r"useful[a-z]*|answers? (?:the|what|every|any|whatever))\b",
    # refusing, where it is spoken against
    r"\b(?:not|never|avoid[a-z]*|without|rather than|instead of|less|fewer|need[a-z]*|unnecessar[a-z]+|only|kind[a-z]*)"
    r"\b[^.!?;]{0,60}?\b(?:refus[a-z]+|declin[a-z]+)",
    r"\b(?:refus[a-z]+|declin[a-z]+)[^.!?;]{0,60}?\b(?:less|need[a-z]*|unnecessar[a-z]+|only|kind[a-z]*|harmless)\b",
)
"""What speaks for helping, or against refusing, evading and preaching."""
