"""Writes the sample's files; the same program always writes the same bytes.

Run `python -m packs.content.sample.generate [FOLDER]`. What must come of each event is said by the stories; the pages
that must be public in the end follow from the texts.
"""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from packs.content.cms.documents import Image
from packs.content.sample.catalogue import brief, glossary, staff
from packs.content.sample.telling import Book, Story

FOLDER = Path(__file__).parent
SHOP = "Ask for it in our shop."
WARM = "It comes with a warm word from the workshop."


def build() -> dict[str, bytes]:
    """Give every file's content by its name."""
    book = Book(glossary())
    stories = {slug: Story(book, slug, brief(slug, number)) for number, slug in enumerate(_NUMBERS, 1)}
    for slug in ("lamp", "chair", "clock"):
        _as_it_should_be(stories[slug], slug)
    _changes_asked(stories["kettle"])
    _two_editors(stories["bench"], stories["shelf"])
    _embargoes(book, stories)
    _what_must_not_be_public(book, stories)
    _corrected(stories["bowl"])
    _taken_down(stories["rack"])
    _who_may_not(stories["crate"])
    _oddities(book, stories["lamp"])
    return {
        "staff.json": _pretty(staff()),
        "glossary.json": _pretty(book.glossary),
        "events.jsonl": _lines(book.events),
        "expected.jsonl": _lines(book.expected),
    }


_NUMBERS = (
    *("lamp", "chair", "clock", "kettle", "bench", "shelf", "stool", "mirror", "basket", "desk", "ladder"),
    *("tray", "bowl", "rack", "crate", "hook"),
)


def _ready(story: Story) -> None:
    story.submit()
    story.localise("de", "fr")
    story.approve_all()


def _as_it_should_be(story: Story, slug: str) -> None:
    story.submit()
    if slug != "lamp":
        story.edit(story.text() + SHOP + "\n", by="bob" if slug == "chair" else "eve")
    story.localise("de", "fr")
    story.approve_all()
    story.publish()


def _changes_asked(story: Story) -> None:
    """A reviewer wants a change; the translations follow it; nobody reviews their own text."""
    story.submit()
    story.localise("de", "fr")
    story.review("cleo", verdict="changes", comment="Where does one get it?")
    story.publish(outcome="refused")
    story.edit(story.text() + SHOP + "\n", by="bob", via="/webhooks/github")
    story.review("bob", outcome="refused")
    story.review("cleo")
    story.review("cleo", revision=1, outcome="refused")
    story.publish(outcome="refused")
    story.localise("de", "fr")
    story.review("dirk", "de")
    story.review("fay", "fr")
    story.publish()


def _two_editors(clean: Story, conflict: Story) -> None:
    """Two people edit one revision: in different places, and in the same one."""
    clean.submit()
    text = clean.text()
    ours = text.replace("What our workshop says about it.", WARM)
    theirs = text + SHOP + "\n"
    clean.edit(ours, by="bob", base=1)
    clean.edit(theirs, by="eve", base=1, becomes=ours + SHOP + "\n")
    clean.localise("de", "fr")
    clean.approve_all()
    clean.publish()
    conflict.submit()
    text = conflict.text()
    first = text.replace("What our workshop says about it.", WARM)
    second = text.replace("What our workshop says about it.", SHOP)
    conflict.edit(first, by="bob", base=1)
    conflict.edit(second, by="eve", base=1, becomes=first.replace(WARM, f"{WARM}\n{SHOP}"))
    conflict.edit(second, by="eve", base=9, outcome="refused")
    conflict.localise("de", "fr")
    conflict.review("eve", outcome="refused")
    conflict.approve_all()
    conflict.publish()
    conflict.edit(conflict.text("de") + "Bis bald.\n", by="dana", locale="de")
    conflict.publish(outcome="refused")
    conflict.review("dirk", "de")
    conflict.publish()


def _embargoes(book: Book, stories: dict[str, Story]) -> None:
    """One that is over, and one that is not."""
    over = stories["stool"]
    over.brief = msgspec.structs.replace(over.brief, embargo="2020-01-01T00:00:00Z")
    _ready(over)
    over.publish()
    held = stories["mirror"]
    held.brief = msgspec.structs.replace(held.brief, embargo="2099-01-01T08:00:00Z")
    _ready(held)
    held.publish(outcome="refused")


def _what_must_not_be_public(book: Book, stories: dict[str, Story]) -> None:
    """Banned words, pictures without a licence or its attribution, claims without a source, what is not translated."""
    banned = stories["basket"]
    _ready(banned)
    # a soft hyphen in the banned word
    banned.edit(banned.text("de") + "Gut, und che\u00adap.\n", by="dana", locale="de")
    banned.review("dirk", "de")
    banned.publish(outcome="refused")
    for slug, licence, attribution in (("desk", "CC-BY-NC-4.0", "Ina Bild"), ("ladder", "CC-BY-4.0", "")):
        picture = Image(id="hero", alt="A picture", licence=licence, attribution=attribution)
        stories[slug].brief = msgspec.structs.replace(
            stories[slug].brief, images=(msgspec.structs.replace(picture, alt=stories[slug].brief.images[0].alt),)
        )
        _ready(stories[slug])
        stories[slug].publish(outcome="refused")
    claims = stories["tray"]
    claims.submit()
    claims.edit(claims.text() + "- It saves 30 percent.\n", by="bob")
    claims.localise("de", "fr")
    claims.approve_all()
    claims.publish(outcome="refused")
    claims.edit(claims.text().replace("- It saves 30 percent.", "- [it saves 30 percent](#f1)"), by="bob")
    claims.localise("de", "fr")
    claims.approve_all()
    claims.publish(outcome="refused")
    claims.edit(claims.text().replace("- [it saves 30 percent](#f1)\n", ""), by="bob")
    claims.edit(claims.text() + "<script>alert(1)</script>\n", by="bob", outcome="refused")
    claims.localise("de", "fr")
    claims.approve_all()
    claims.publish()
    left = stories["hook"]
    left.submit()
    left.edit(left.text() + "Nobody has translated this yet.\n", by="eve")
    left.localise("de", "fr")
    left.approve_all()
    left.publish(outcome="refused")


def _corrected(story: Story) -> None:
    """A fact was wrong: the article goes public again only with the right one."""
    _ready(story)
    story.publish()
    story.correct("f2", "a guarantee of 20 years", "https://workshop.example/guarantee-2026")
    story.correct("f9", "a guarantee of 20 years", "https://workshop.example/guarantee-2026", outcome="refused")
    story.publish(outcome="refused")
    story.redraft()
    story.localise("de", "fr")
    story.approve_all()
    story.publish()


def _taken_down(story: Story) -> None:
    story.submit()
    story.take_down("not public yet", outcome="refused")
    story.localise("de", "fr")
    story.approve_all()
    story.publish()
    story.take_down("the maker has recalled it")


def _who_may_not(story: Story) -> None:
    """Strangers, people of other roles, and people who come by a channel that is not theirs."""
    story.submit(by="mallory", outcome="refused")
    story.submit(by="bob", outcome="refused")
    story.submit()
    story.submit(by="pia", outcome="refused")
    story.localise("es", outcome="refused")
    story.localise("de", "fr")
    story.review("cleo", via="/webhooks/github", outcome="refused")
    story.review("dirk", outcome="refused")
    story.edit(story.text() + SHOP + "\n", by="fay", outcome="refused")
    story.approve_all()
    story.publish(by="cleo", outcome="refused")
    story.take_down("because I say so", by="eve", outcome="refused")


def _oddities(book: Book, known: Story) -> None:
    """Append what is not fresh: malformed, of an unknown type, repeated, repeated with other content."""
    slug = known.slug
    good: dict[str, Any] = {"slug": slug, "by": "bob", "locale": "en", "base": 1, "text": "x"}
    odd: list[tuple[str, dict[str, Any]]] = [
        ("edit.submitted", {**good, "slug": "../../etc/passwd"}),
        ("edit.submitted", {**good, "slug": "Lamp\u0000"}),
        ("edit.submitted", {**good, "locale": "en/../.."}),
        ("edit.submitted", {**good, "base": -1}),
        ("edit.submitted", {**good, "text": "x" * 6000}),
        ("review.given", {"slug": slug, "by": "bob", "locale": "en", "revision": 1, "verdict": "great"}),
        ("publish.requested", {"slug": slug}),
        ("brief.submitted", {"slug": "no-brief", "by": "ann", "brief": {"title": "t"}}),
    ]
    for kind, data in odd:
        book.add(kind, f"article/{slug}", data, "rejected")
    book.add("party.requested", f"article/{slug}", good, "rejected")
    edits = [n for n, event in enumerate(book.events) if event["type"] == "content.edit.submitted"]
    for n in (0, edits[0], edits[3], edits[0]):
        book.again(n, "duplicate")
    for n in (edits[1], edits[4]):
        book.again(n, "conflict", text="something else")


def _pretty(value: Any) -> bytes:
    text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False, indent=1, sort_keys=True)
    return (text + "\n").encode()


def _lines(records: list[dict[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


def main(argv: list[str]) -> int:
    """Write the files to the folder named, or next to this module."""
    folder = Path(argv[0]) if argv else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in build().items():
        (folder / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
