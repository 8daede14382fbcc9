"""A page as a file of the site: front matter, the text as it stands in the CMS, its sources and credits. Pure.

The rule: the text can be taken out again to the letter, so that what somebody changed in the file can be merged.
"""

import json

from packs.content.cms.documents import Brief, Image, Page
from packs.content.text import credits

_END = "\n---\n"
_SOURCES = "\n<!-- sources: made by the studio, not to be edited -->\n"


def path_of(slug: str, locale: str) -> str:
    """Where a page stands in the repository; both are held to their patterns by every struct that has them."""
    return f"content/{locale}/{slug}.md"


def render(slug: str, page: Page, brief: Brief) -> str:
    """The file of a page. Values of the front matter are JSON strings, which YAML reads as they are."""
    head = {"slug": slug, "locale": page.locale, "revision": page.revision, "title": _title(page.text)}
    lines = ["---", *(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in head.items())]
    used = [fact for fact in brief.facts if f"](#{fact.id})" in page.text]
    end = [f'- <a id="{fact.id}"></a>{_plain(fact.source)}' for fact in used]
    end += [f"- /images/{image.id}: {_credit(image)}" for image in credits(page.text, brief.images)]
    return "\n".join(lines) + _END + page.text + _SOURCES + "\n".join(end) + "\n"


def text_in(file: str) -> str:
    """The text in a page's file; what has none of the studio's marks is all text."""
    _, mark, rest = file.partition(_END) if file.startswith("---\n") else ("", "", file)
    text, found, _ = (rest if mark else file).rpartition(_SOURCES)
    return text if found else (rest if mark else file)


def _credit(image: Image) -> str:
    return ", ".join(_plain(part) for part in (image.licence, image.attribution) if part)


def _title(text: str) -> str:
    return next((line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("# ")), "")


def _plain(text: str) -> str:
    """Text for a line of Markdown: what could begin markup is escaped."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>#!|" else char for char in text)
