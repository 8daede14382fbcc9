"""What a text holds that policy asks about: claims and their sources, pictures, banned words, raw markup. Pure.

The rule: a claim stands in the text as a link to a fact of the brief, ``[it has 3 parts](#f1)``; a number that stands
outside of one is a claim without a source.
"""

import re
import unicodedata
from collections.abc import Iterable

import msgspec

from packs.content.cms.documents import Brief, Image

# SPDX names of licences that the studio may publish under; the others want something that a blog cannot give.
LICENCES = {"CC0-1.0": False, "LicenseRef-owned": False, "CC-BY-4.0": True, "CC-BY-SA-4.0": True}

_LINK = re.compile(r"(?<!!)\[([^\]\n]*)\]\(([^)\s]*)\)")
_IMAGE = re.compile(r"!\[([^\]\n]*)\]\(([^)\s]*)\)")
_REFERENCE = re.compile(r"^\s{0,3}\[[^\]\n]+\]:|!?\[[^\]\n]*\]\[[^\]\n]*\]", re.MULTILINE)
_NUMBER = re.compile(r"\d+(?:[.,\u00a0\u202f'\u2019 ]\d{3})*(?:[.,]\d+)?")
_MARKUP = re.compile(r"<[a-zA-Z!/?]|&#|javascript\s*:|data\s*:|vbscript\s*:", re.IGNORECASE)
_INVISIBLE = {"Cf", "Cc", "Co"}
_SPACE = re.compile(r"\s+")
_PATH = "/images/"
_WORDS = re.compile(r"[^\W\d_]{2,}")


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a text: each a list of what is wrong, in the text's own words."""

    unsourced: tuple[str, ...] = ()
    misquoted: tuple[str, ...] = ()
    banned: tuple[str, ...] = ()
    unlicensed: tuple[str, ...] = ()
    markup: tuple[str, ...] = ()


def look(text: str, brief: Brief) -> Look:
    """Hold a text against its brief."""
    plain = unicodedata.normalize("NFKC", text)
    facts = {f"#{fact.id}": fact.text for fact in brief.facts}
    links = _LINK.findall(plain)
    rest = _IMAGE.sub(" ", _LINK.sub(" ", plain))
    sourced = [(said, facts[target]) for said, target in links if target in facts]
    return Look(
        unsourced=(*(said or target for said, target in links if target not in facts), *_bare_numbers(rest)),
        misquoted=tuple(said for said, fact in sourced if not _numbers(said) <= _numbers(fact)),
        banned=_banned(plain, brief.banned),
        unlicensed=tuple(_unlicensed(plain, {f"{_PATH}{image.id}": image for image in brief.images})),
        markup=_markup(text, plain),
    )


def untranslated(text: str, source: str, same: Iterable[str] = ()) -> tuple[str, ...]:
    """The lines of a translation that stand in the source as well and have words in them; ``same`` may."""
    before = {_plain_line(line) for line in source.splitlines()}
    left = (_plain_line(line) for line in text.splitlines())
    known = {_plain_line(each) for each in same}
    return tuple(line for line in left if line in before and line not in known and len(_WORDS.findall(line)) > 1)


def credits(text: str, images: Iterable[Image]) -> list[Image]:
    """The pictures that stand in a text."""
    used = {target for _, target in _IMAGE.findall(text)}
    return [image for image in images if f"{_PATH}{image.id}" in used]


def _bare_numbers(rest: str) -> list[str]:
    """Lines with a number that no claim holds."""
    return [line.strip()[:80] for line in rest.splitlines() if any(char.isdigit() for char in line)]


def _numbers(text: str) -> set[str]:
    """The numbers of a text, however a language writes them: only the digits count."""
    return {re.sub(r"\D", "", found) for found in _NUMBER.findall(unicodedata.normalize("NFKC", text))}


def _banned(plain: str, terms: Iterable[str]) -> tuple[str, ...]:
    """The banned terms that occur as words, in any letter case, also with invisible characters between letters."""
    text = _fold(plain)
    return tuple(term for term in terms if re.search(rf"(?<!\w){re.escape(_fold(term))}(?!\w)", text))


def _fold(text: str) -> str:
    seen = "".join(char for char in text if unicodedata.category(char) not in _INVISIBLE or char.isspace())
    marks = unicodedata.normalize("NFKC", re.sub(r"[*_`~]", "", seen))
    return _SPACE.sub(" ", marks).casefold()


def _unlicensed(plain: str, images: dict[str, Image]) -> Iterable[str]:
    for _, target in _IMAGE.findall(plain):
        image = images.get(target)
        if image is None or image.licence not in LICENCES:
            yield target
        elif LICENCES[image.licence] and not image.attribution.strip():
            yield target


def _markup(text: str, plain: str) -> tuple[str, ...]:
    """Raw HTML, active links, links by reference, control characters: what a page of the studio never holds."""
    found = [match.group() for pattern in (_MARKUP, _REFERENCE) for match in pattern.finditer(plain)]
    found += [hex(ord(char)) for char in text if unicodedata.category(char) == "Cc" and char != "\n"]
    found += [target for said, target in _LINK.findall(plain) if not target.startswith("#")]
    return tuple(found)


def _plain_line(line: str) -> str:
    return _SPACE.sub(" ", _LINK.sub(r"\1", _IMAGE.sub(r"\1", line)).lstrip("#-> ")).strip()
