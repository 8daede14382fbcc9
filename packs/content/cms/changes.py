"""What the CMS may be asked to change: one struct a kind, in a tagged union. Pages are put with a revision."""

import msgspec

from packs.content.cms.documents import Brief, Fact, Locale, Name, Release, Review, Revision, Slug, Text


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Base of all changes: each is of one article."""

    slug: Slug


class PutBrief(Change, frozen=True, kw_only=True, tag="brief"):
    """Take a brief on; an article has one, which ``correct`` changes."""

    brief: Brief
    requested_by: Name


class Correct(Change, frozen=True, kw_only=True, tag="correct"):
    """Put a fact of the brief right."""

    fact: Fact


class Assign(Change, frozen=True, kw_only=True, tag="assign"):
    """Who sees to the article: people by locale, the editor under the source's."""

    people: dict[Locale, Name]


class PutPage(Change, frozen=True, kw_only=True, tag="page"):
    """A new revision of a text, on the revision in ``If-Match``. ``merges``: digest of a text that was merged into it.

    ``settles`` names the open merge that this ends.
    """

    locale: Locale
    text: Text
    author: Name
    co_author: Name | None = None
    of: Revision = 0
    merges: str = ""
    settles: str = ""


class KeepMerge(Change, frozen=True, kw_only=True, tag="merge"):
    """Keep a text that does not fit what stands, until a person has brought both together; it may end an older one."""

    locale: Locale
    base: Revision
    text: Text
    author: Name
    settles: str = ""


class AddReview(Change, frozen=True, kw_only=True, tag="review"):
    """A reviewer's word; only on the head."""

    review: Review


class Publish(Change, frozen=True, kw_only=True, tag="release"):
    """Make these revisions public, or withdraw all of them; ``if_state`` is the state that must stand."""

    release: Release


AnyChange = PutBrief | Correct | Assign | PutPage | KeepMerge | AddReview | Publish
