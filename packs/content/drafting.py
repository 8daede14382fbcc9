"""Texts by template: a draft from its brief, and its localisation from the studio's glossary. Pure.

The rule: a draft claims what the brief's facts say, word for word, and nothing else.
"""

import re
from collections.abc import Mapping

from packs.content.cms.documents import Brief, Person

STUDIO = "agent:studio"

HEADINGS = {"en": "What we know", "de": "Was wir wissen", "fr": "Ce que nous savons"}

_HEAD = re.compile(r"^(#+ |- |> )?(.*)\Z")
_LINKS = re.compile(r"(!?)\[([^\]\n]*)\]\(([^)\s]*)\)")


def draft(brief: Brief) -> str:
    """The source text: title, summary, each fact as a claim, each picture."""
    lines = [f"# {brief.title}", "", brief.summary, ""]
    for image in brief.images:
        lines += [f"![{image.alt}](/images/{image.id})", ""]
    if brief.facts:
        lines += [f"## {HEADINGS['en']}", ""]
        lines += [f"- [{fact.text}](#{fact.id})" for fact in brief.facts]
        lines += [""]
    return "\n".join(lines)


def localise(text: str, glossary: Mapping[str, str]) -> str:
    """The text in another language, line by line; what the glossary does not have stays as it was."""
    return "\n".join(_line(line, glossary) for line in text.split("\n"))


def assign(staff: list[Person], locales: tuple[str, ...], source: str) -> dict[str, str]:
    """Who sees to each locale: an editor of the source's language, translators; the least loaded, then by name.

    Nobody beyond their limit; a locale that nobody has room for is left out.
    """
    loads = {person.name: person.load for person in staff}
    chosen: dict[str, str] = {}
    for locale in (source, *(each for each in locales if each != source)):
        role = "editor" if locale == source else "translator"
        able = [each for each in staff if role in each.roles and locale in each.languages]
        free = [each for each in able if loads[each.name] < each.limit]
        if free:
            best = min(free, key=lambda person: (loads[person.name], person.name))
            chosen[locale] = best.name
            loads[best.name] += 1
    return chosen


def _line(line: str, glossary: Mapping[str, str]) -> str:
    found = _HEAD.match(line)
    mark, rest = (found.group(1) or "", found.group(2)) if found else ("", line)
    if rest in glossary:
        return mark + glossary[rest]
    return mark + _LINKS.sub(lambda link: f"{link[1]}[{glossary.get(link[2], link[2])}]({link[3]})", rest)
