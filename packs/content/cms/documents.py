"""What the CMS keeps and answers: briefs, pages, people, releases. Its wire schema; clients may use it."""

import hashlib
from typing import Annotated, Literal

import msgspec

TEXT_BYTES = 5_000  # a plan that shows a merge holds a text nine times, and has at most 64 KiB

Slug = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*\Z", max_length=80)]
Locale = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2}(-[A-Z]{2})?\Z")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:\-]{0,79}\Z")]
Id = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9\-]{0,39}\Z")]
Line = Annotated[str, msgspec.Meta(min_length=1, max_length=300, pattern=r"^[^\r\n]*\Z")]
Text = Annotated[str, msgspec.Meta(max_length=TEXT_BYTES)]
Revision = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Written = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Moment = Annotated[str, msgspec.Meta(pattern=r"^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z)?\Z")]
SOURCE: Locale = "en"


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all that the CMS keeps."""


class Fact(Document, frozen=True, kw_only=True):
    """What may be claimed, and where it is from."""

    id: Id
    text: Line
    source: Line


class Image(Document, frozen=True, kw_only=True):
    """A picture: an SPDX licence, and whom to name for it."""

    id: Id
    alt: Line
    licence: Annotated[str, msgspec.Meta(max_length=60)] = ""
    attribution: Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[^\r\n]*\Z")] = ""


class Brief(Document, frozen=True, kw_only=True):
    """What is to be written, for whom and how. Nothing of it is public before ``embargo`` (UTC; "" for none)."""

    title: Line
    summary: Line
    audience: Line
    tone: Line
    facts: Annotated[tuple[Fact, ...], msgspec.Meta(max_length=40)] = ()
    images: Annotated[tuple[Image, ...], msgspec.Meta(max_length=20)] = ()
    banned: Annotated[tuple[Line, ...], msgspec.Meta(max_length=100)] = ()
    locales: Annotated[tuple[Locale, ...], msgspec.Meta(max_length=20)] = ()
    embargo: Moment = ""


class Page(Document, frozen=True, kw_only=True):
    """One revision of a text. ``authors`` are all who wrote what stands in it; ``of`` is the source's revision.

    ``merges`` are digests of texts that went into it by a merge.
    """

    locale: Locale
    revision: Revision
    text: str
    digest: str
    authors: tuple[str, ...]
    of: Revision = 0
    merges: tuple[str, ...] = ()


class Review(Document, frozen=True, kw_only=True):
    """A reviewer's word on one revision."""

    locale: Locale
    revision: Revision
    reviewer: Name
    verdict: Literal["approved", "changes"]
    comment: str = ""


class Release(Document, frozen=True, kw_only=True):
    """What is public: a revision for each locale; none of a ``withdrawn`` article."""

    state: Literal["live", "withdrawn"]
    revisions: dict[Locale, Revision]


class Article(Document, frozen=True, kw_only=True):
    """All that holds of an article now: ``pages`` are the heads, ``reviews`` those of the heads.

    ``known`` are digests of all texts that went into it, by locale; ``now`` is the CMS's clock.
    """

    slug: Slug
    brief: Brief | None = None
    brief_revision: Revision = 0
    requested_by: str = ""
    pages: tuple[Page, ...] = ()
    reviews: tuple[Review, ...] = ()
    assigned: dict[str, str] = msgspec.field(default_factory=dict)
    release: Release | None = None
    known: dict[Locale, tuple[str, ...]] = msgspec.field(default_factory=dict)
    now: float = 0.0

    def page(self, locale: str) -> Page | None:
        """The head of a locale."""
        return next((page for page in self.pages if page.locale == locale), None)


class Person(Document, frozen=True, kw_only=True):
    """Somebody of the staff. ``channels`` are the event sources where they are known to be themselves."""

    name: Name
    roles: tuple[str, ...]
    languages: tuple[Locale, ...]
    channels: tuple[str, ...] = ()
    load: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=0)] = 5


class Merge(Document, frozen=True, kw_only=True):
    """Two texts of one base that nobody has brought together yet: ``text`` was handed in on ``base``."""

    id: str
    slug: Slug
    locale: Locale
    base: Revision
    text: str
    author: str
    open: bool = True


class Entry(Document, frozen=True, kw_only=True):
    """A line of the log of changes."""

    seq: int
    key: str
    kind: str
    slug: str
    at: str


class Done(Document, frozen=True, kw_only=True):
    """A change that took effect. ``merge`` names the open merge that it became in place of a revision."""

    kind: str
    slug: str
    seq: int
    revision: int = 0
    merge: str = ""
    replayed: bool = False


def text_digest(text: str) -> str:
    """What a text is known by."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
