"""The studio's events: what its people and channels ask for. All are about one article, by its slug.

The rule: unknown fields are passed over, but what is known is held to its type and bounds. Who asks is in ``by``; the
information point holds it against the staff and the channel that the event came by.
"""

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from mesh.pack import EventType
from packs.content.cms.documents import (
    SOURCE,
    TEXT_BYTES,
    Brief,
    Id,
    Line,
    Locale,
    Name,
    Revision,
    Slug,
    Text,
    Written,
)

Comment = Annotated[str, msgspec.Meta(max_length=2_000)]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What every event holds: an article, and who asks."""

    slug: Slug
    by: Name


class BriefSubmitted(Asked, frozen=True, kw_only=True):
    """A brief for a new article."""

    brief: Brief

    def __post_init__(self) -> None:
        for name, items in (("facts", self.brief.facts), ("images", self.brief.images)):
            ids = [item.id for item in items]
            if len(ids) != len(set(ids)):
                raise ValueError(f"brief.{name}: an id occurs twice")
        if self.brief.embargo:
            datetime.fromisoformat(self.brief.embargo)  # a ValueError for a day that there is not
        if SOURCE not in self.brief.locales:
            raise ValueError(f"brief.locales: {SOURCE} is the language that articles are written in")


class DraftRequested(Asked, frozen=True, kw_only=True):
    """Write the source text anew from the brief as it is now, over revision ``base``."""

    base: Revision


class EditSubmitted(Asked, frozen=True, kw_only=True):
    """A person's text, made from revision ``base``; ``of`` is the source's revision that it is of (0: as before)."""

    locale: Locale
    base: Revision
    of: Revision = 0
    text: Annotated[Text, msgspec.Meta(min_length=1)]

    def __post_init__(self) -> None:
        if len(self.text.encode()) > TEXT_BYTES:
            raise ValueError(f"text: {len(self.text.encode())} bytes, {TEXT_BYTES} are allowed")


class LocalisationRequested(Asked, frozen=True, kw_only=True):
    """Bring the source text, as it is now, into other languages."""

    locales: Annotated[tuple[Locale, ...], msgspec.Meta(min_length=1, max_length=20)]

    def __post_init__(self) -> None:
        if SOURCE in self.locales or len(set(self.locales)) != len(self.locales):
            raise ValueError(f"locales: each once, and not {SOURCE}, which articles are written in")


class ReviewGiven(Asked, frozen=True, kw_only=True):
    """A reviewer's word on one revision."""

    locale: Locale
    revision: Written
    verdict: Literal["approved", "changes"]
    comment: Comment = ""


class PublishRequested(Asked, frozen=True, kw_only=True):
    """Make the article public in all its languages."""


class CorrectionRequested(Asked, frozen=True, kw_only=True):
    """A fact of the brief is wrong: this is right."""

    fact: Id
    text: Line
    source: Line


class TakedownRequested(Asked, frozen=True, kw_only=True):
    """Take the article off the site."""

    reason: Line


class MergeRequested(msgspec.Struct, frozen=True, kw_only=True):
    """The CMS holds two texts that do not fit together."""

    slug: Slug
    merge: Name


class MessageReceived(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody of the staff wrote in their own words, such as a comment; nothing else is known of it."""

    by: Name
    message: Annotated[str, msgspec.Meta(min_length=1, max_length=8_000)]


MESSAGE = "content.message.received"
_BRIEF = ("/brief",)

EVENTS = (
    EventType("content.brief.submitted", BriefSubmitted, taint=_BRIEF, entity="article"),
    EventType("content.draft.requested", DraftRequested, entity="article"),
    EventType("content.edit.submitted", EditSubmitted, taint=("/text",), entity="article"),
    EventType("content.localisation.requested", LocalisationRequested, entity="article"),
    EventType("content.review.given", ReviewGiven, taint=("/comment",), entity="article"),
    EventType("content.publish.requested", PublishRequested, entity="article"),
    EventType("content.correction.requested", CorrectionRequested, taint=("/text", "/source"), entity="article"),
    EventType("content.takedown.requested", TakedownRequested, taint=("/reason",), entity="article"),
    EventType("content.merge.requested", MergeRequested, entity="article"),
    EventType(MESSAGE, MessageReceived, taint=("/message",), entity="message"),
)
