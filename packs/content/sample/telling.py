"""Tells an article's story event by event, and keeps what must come of it. Outcomes are said, never computed here."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from packs.content.cms.documents import SOURCE, Brief, Fact, Page, text_digest
from packs.content.drafting import draft, localise
from packs.content.page import path_of, render


@dataclass
class Book:
    """All events in order, what must come of each, and the translations."""

    glossary: dict[str, dict[str, str]]
    events: list[dict[str, Any]] = field(default_factory=list)
    expected: list[dict[str, Any]] = field(default_factory=list)

    def add(self, kind: str, subject: str, data: Any, outcome: str, source: str = "/studio", **more: Any) -> int:
        """One event; its place."""
        n = len(self.events)
        event = {
            "specversion": "1.0",
            "id": f"sample-{n:04}",
            "source": source,
            "type": f"content.{kind}",
            "subject": subject,
            "time": f"2026-11-20T08:{n // 60:02}:{n % 60:02}Z",
            "datacontenttype": "application/json",
            "data": msgspec.to_builtins(data),
        }
        self.events.append(event)
        self.expected.append({"id": event["id"], "outcome": outcome, **more})
        return n

    def again(self, n: int, outcome: str, **changed: Any) -> None:
        """The event at a place once more, maybe with other data."""
        event = self.events[n]
        self.events.append({**event, "data": {**event["data"], **changed}})
        self.expected.append({"id": event["id"], "outcome": outcome})


@dataclass
class Story:
    """One article: its heads, and what is public of it."""

    book: Book
    slug: str
    brief: Brief
    heads: dict[str, Page] = field(default_factory=dict)
    last: int = -1

    def tell(self, kind: str, outcome: str = "completed", *, via: str = "/studio", **data: Any) -> int:
        """One event of this article."""
        n = self.book.add(kind, f"article/{self.slug}", {"slug": self.slug, **data}, outcome, via)
        if outcome == "completed":
            self.last = n
        return n

    def submit(self, outcome: str = "completed", by: str = "ann") -> int:
        """The brief comes in; with it the first draft."""
        n = self.tell("brief.submitted", outcome, by=by, brief=msgspec.to_builtins(self.brief))
        if outcome == "completed":
            self.write(SOURCE, draft(self.brief))
        return n

    def write(self, locale: str, text: str, of: int = 0) -> None:
        """A new head."""
        revision = self.heads[locale].revision + 1 if locale in self.heads else 1
        self.heads[locale] = Page(
            locale=locale, revision=revision, text=text, digest=text_digest(text), authors=(), of=of
        )

    def text(self, locale: str = SOURCE) -> str:
        """What stands."""
        return self.heads[locale].text

    def edit(
        self,
        text: str,
        by: str = "bob",
        *,
        locale: str = SOURCE,
        base: int | None = None,
        outcome: str = "completed",
        becomes: str = "",
        via: str = "/studio",
    ) -> int:
        """A person's text, made from revision ``base``; ``becomes`` is what a merge makes of it."""
        on = self.heads[locale].revision if locale in self.heads else 0
        made_on = on if base is None else base
        n = self.tell("edit.submitted", outcome, via=via, by=by, locale=locale, base=made_on, text=text)
        if outcome == "completed":
            of = self.heads[locale].of if locale in self.heads else 0
            if not of and locale != SOURCE:
                of = self.heads[SOURCE].revision
            self.write(locale, becomes or text, of)
        return n

    def localise(self, *locales: str, by: str = "bob", outcome: str = "completed") -> int:
        """The source goes into other languages."""
        n = self.tell("localisation.requested", outcome, by=by, locales=list(locales))
        if outcome == "completed":
            for locale in locales:
                text = localise(self.text(), self.book.glossary[locale])
                self.write(locale, text, self.heads[SOURCE].revision)
        return n

    def review(
        self,
        by: str,
        locale: str = SOURCE,
        verdict: str = "approved",
        *,
        outcome: str = "completed",
        revision: int = 0,
        via: str = "/studio",
        comment: str = "",
    ) -> int:
        """A reviewer's word on what stands."""
        on = revision or (self.heads[locale].revision if locale in self.heads else 1)
        data = {"by": by, "locale": locale, "revision": on, "verdict": verdict, "comment": comment}
        return self.tell("review.given", outcome, via=via, **data)

    def approve_all(self, source_by: str = "cleo") -> None:
        """Everything is approved by somebody who did not write it."""
        self.review(source_by)
        self.review("dirk", "de")
        self.review("fay", "fr")

    def publish(self, outcome: str = "completed", by: str = "ann") -> int:
        """The article is to go public; what must be public in the end stands with the last one."""
        n = self.tell("publish.requested", outcome, by=by)
        if outcome == "completed":
            for line in self.book.expected:
                if line.get("slug") == self.slug:
                    for name in ("slug", "files", "revisions", "state"):
                        line.pop(name)
            self.book.expected[n] |= self.public()
        return n

    def public(self) -> dict[str, Any]:
        """What is public when the heads are."""
        locales = self.brief.locales
        return {
            "slug": self.slug,
            "state": "live",
            "revisions": {locale: self.heads[locale].revision for locale in locales},
            "files": {
                path_of(self.slug, locale): render(self.slug, self.heads[locale], self.brief) for locale in locales
            },
        }

    def take_down(self, reason: str, outcome: str = "completed", by: str = "ann") -> int:
        """The article is to go."""
        n = self.tell("takedown.requested", outcome, by=by, reason=reason)
        if outcome == "completed":
            for line in self.book.expected[:n]:
                if line.get("slug") == self.slug:
                    for name in ("slug", "files", "revisions", "state"):
                        line.pop(name)
            self.book.expected[n] |= {"slug": self.slug, "state": "withdrawn", "revisions": {}, "files": {}}
        return n

    def correct(self, fact: str, text: str, source: str, outcome: str = "completed", by: str = "ann") -> int:
        """A fact is put right."""
        n = self.tell("correction.requested", outcome, by=by, fact=fact, text=text, source=source)
        if outcome == "completed":
            right = Fact(id=fact, text=text, source=source)
            facts = tuple(right if each.id == fact else each for each in self.brief.facts)
            self.brief = msgspec.structs.replace(self.brief, facts=facts)
        return n

    def redraft(self, by: str = "bob", outcome: str = "completed") -> int:
        """The source is written anew."""
        n = self.tell("draft.requested", outcome, by=by, base=self.heads[SOURCE].revision)
        if outcome == "completed":
            self.write(SOURCE, draft(self.brief))
        return n
