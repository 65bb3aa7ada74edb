"""Constitutions in the forms that others use: read from them, and written back to them.

    read_form("CritiqueRevisionInstructions.json").constitution      the form is told from the content
    write_form(constitution, "hf").text                              ... .lost says what the form cannot hold

What a form loses is not declared but found: what was written is read again and compared, field by field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from solon import yamls
from solon.complaints import one_of
from solon.constitution.forms import cai, hf, lists, markdown, prose, system_prompt, traits
from solon.constitution.forms.files import MOST_PRINCIPLES, Draft, Form, Source, read_source
from solon.constitution.principles import ROLES, Constitution, Principle
from solon.errors import BadInput

__all__ = ["FORMS", "Exported", "Imported", "read_form", "write_form"]

_FORMS: dict[str, Form] = {
    "cai": cai.PAIRS,
    "cai-preferences": cai.PREFERENCES,
    "hf": hf.HF,
    "traits": traits.TRAITS,
    "markdown": markdown.MARKDOWN,
    "list": lists.LIST,
    "prose": prose.PROSE,
    "system-prompt": system_prompt.SYSTEM_PROMPT,
}

FORMS: dict[str, str] = {name: form.caption for name, form in _FORMS.items()}
"""Every form, each with a line for people."""


@dataclass(frozen=True)
class Imported:
    """A constitution that was read from another form. `notes` say what people should know of how it was read."""

    constitution: Constitution
    form: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exported:
    """A constitution in another form.

    text: the file
    lost: what the form does not hold, by field of Constitution (no ids) or of Principle (the ids of the principles
          whose value is lost or changed); under "principle" those that are left out whole
    """

    text: str
    lost: Mapping[str, tuple[str, ...]]


def read_form(path: str | Path, form: str | None = None) -> Imported:
    """Return the constitution that the file at `path` holds.

    Args:
        form: one of FORMS; by default it is told from the content.

    Raises BadInput with one line: what is not there, no text, over 1 MB, of no form or of several, or not as its form
    wants it, with the place.
    """
    if form is not None and form not in FORMS:
        raise BadInput(f"unknown form {form!r}; {one_of(form, list(FORMS))}")
    source = read_source(path)
    if all(re.search(rf"^(?:{key}):", source.text, re.MULTILINE) for key in ("name", "principles|extends")):
        raise source.wrong("is a constitution of Solon's own, to be used as it stands; look at it with `solon check`")
    if form is None:
        return _read(source, _told(source))
    others = [name for name in _fitting(source) if name != form]
    hint = f"; it looks like `{others[0]}`" if others else ""
    if hint and source.is_json and not _FORMS[form].is_json:
        raise source.wrong(f"is JSON, and `{form}` is a text{hint}")
    try:
        return _read(source, form)
    except BadInput as problem:
        raise BadInput(f"{problem}{hint}") from None


def write_form(constitution: Constitution, form: str) -> Exported:
    """Return a constitution in one of FORMS. Raises BadInput where nothing of it fits into the form."""
    if form not in FORMS:
        raise BadInput(f"unknown form {form!r}; {one_of(form, list(FORMS))}")
    text, kept = _FORMS[form].write(constitution)
    if not kept:
        raise BadInput(
            f"constitution {constitution.name!r}: no principle has what `{form}` holds ({FORMS[form]}); give one a "
            "`text: ...` and a weight above 0"
        )
    if not _FORMS[form].is_json:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return Exported(text, _lost(constitution, text, kept, form))


def _told(source: Source) -> str:
    """Return the one form that the content has."""
    content = source.json() if source.is_json else None
    fitting = _fitting(source)
    if "markdown" in fitting or len(fitting) == 1:
        return "markdown" if "markdown" in fitting else fitting[0]
    if fitting:
        forms = " or ".join(f"`{name}`" for name in fitting)
        raise source.wrong(f"may be {forms}; name the form, `--form {fitting[0]}`")
    found = f" ($ is {content.found})" if content else ""
    raise source.wrong(f"of no form that is read here{found}; name its form, `--form`: {', '.join(FORMS)}")


def _fitting(source: Source) -> list[str]:
    """Return the forms that the content may have; none where it is neither a text nor JSON."""
    json = source.is_json
    try:
        content = source.json().value if json else source.text
    except BadInput:
        return []
    return [name for name, form in _FORMS.items() if form.is_json == json and form.fits(content)]


def _read(source: Source, name: str) -> Imported:
    form = _FORMS[name]
    draft: Draft = (form.read or prose.read_prose)(source)
    if form.read is None:
        draft.notes.insert(0, f"a {name} is read as prose")
    principles = draft.values["principles"]
    if not principles:
        raise source.wrong("holds no principle")
    if len(principles) > MOST_PRINCIPLES:
        raise source.wrong(f"{len(principles):,} principles; a constitution has {MOST_PRINCIPLES:,} at most")
    document = yamls.Document(source.name, draft.values, (), {(): 1, **draft.lines}, {})
    return Imported(yamls.build(Constitution, document), name, tuple(draft.notes))


def _lost(constitution: Constitution, text: str, kept: Sequence[Principle], form: str) -> dict[str, tuple[str, ...]]:
    """Return what a form does not hold of a constitution."""
    fields = [name for name in Constitution.model_fields if name != "principles" and getattr(constitution, name)]
    stayed = {each.id for each in kept}
    left = tuple(each.id for each in constitution.principles if each.id not in stayed)
    carries = _FORMS[form].carries
    again: Constitution | None = None
    if not carries:
        again = _read(Source.of(form, _NO_NAME, text), form).constitution
        pairs = list(_paired(kept, again.principles))
        left += tuple(each.id for each, read in pairs if read is None)
    lost: dict[str, tuple[str, ...]] = {}
    for name in fields:
        if name not in carries if again is None else getattr(again, name) != getattr(constitution, name):
            lost[name] = ()
    if left:
        lost["principle"] = left
    for name, field in Principle.model_fields.items():
        if again is None:
            ids = [] if name in carries else [each.id for each in kept if getattr(each, name) != field.default]
        else:
            ids = [each.id for each, read in pairs if read and not _same(each, read, name)]
        if ids:
            lost[name] = tuple(ids)
    return lost


def _paired(kept: Sequence[Principle], read: Sequence[Principle]) -> Iterator[tuple[Principle, Principle | None]]:
    """Yield each principle that was written with the one that was read for it."""
    if len(kept) == len(read):
        yield from zip(kept, read, strict=True)
        return
    by_id = {each.id: each for each in read}
    yield from ((each, by_id.get(each.id)) for each in kept)


def _same(written: Principle, read: Principle, field: str) -> bool:
    before, after = getattr(written, field), getattr(read, field)
    # a form without `text` is given the wording that is made of it
    return bool(after == before or (field in ROLES and not before and after == written.own(field)))


_NO_NAME = "the name of its file"
