"""The arguments of the studio's tools, as a plan holds them: bounded, and without unknown fields."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from packs.content.cms.documents import Brief, Fact, Line, Locale, Name, Revision, Slug, Text, Written

Key = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
BlobId = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{40})?\Z")]


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every call names: an article."""

    slug: Slug


class BriefArgs(Arguments, frozen=True, kw_only=True):
    """Take a brief on."""

    brief: Brief
    by: Name


class AssignArgs(Arguments, frozen=True, kw_only=True):
    """Who sees to the article, by locale."""

    people: dict[Locale, Name]


class PageArgs(Arguments, frozen=True, kw_only=True):
    """A text on the revision ``on``, which it was made from; ``of`` is the source's revision that it translates."""

    locale: Locale
    on: Revision
    text: Annotated[Text, msgspec.Meta(min_length=1)]
    author: Name
    of: Revision = 0


class EditArgs(PageArgs, frozen=True, kw_only=True):
    """A person's text, as it was handed in on revision ``on``."""


class MergeArgs(Arguments, frozen=True, kw_only=True):
    """What a person sees of a merge, to the letter: ``base``, ``ours`` (handed in), ``theirs`` (what stands), and the
    ``text`` that is to stand on revision ``on``, with the number of places that both sides changed. ``editor`` is who
    has written the text in place of the one proposed.
    """

    locale: Locale
    on: Revision
    base: Text
    ours: Text
    theirs: Text
    text: Annotated[Text, msgspec.Meta(min_length=1)]
    conflicts: Annotated[int, msgspec.Meta(ge=0, le=10_000)]
    author: Name
    of: Revision = 0
    settles: Annotated[str, msgspec.Meta(max_length=80)] = ""
    editor: Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.:\-]{0,79})?\Z")] = ""


class ReviewArgs(Arguments, frozen=True, kw_only=True):
    """A reviewer's word on a revision."""

    locale: Locale
    revision: Written
    reviewer: Name
    verdict: Literal["approved", "changes"]
    comment: Annotated[str, msgspec.Meta(max_length=2_000)] = ""


class CorrectArgs(Arguments, frozen=True, kw_only=True):
    """Put a fact of the brief right."""

    fact: Fact


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page to publish: the revision, and the blob that its file has now ("" for none)."""

    locale: Locale
    revision: Written
    blob: BlobId


class CommitArgs(Arguments, frozen=True, kw_only=True):
    """Commit these revisions to the site's repository."""

    files: Annotated[tuple[File, ...], msgspec.Meta(min_length=1, max_length=20)]


class ReleaseArgs(Arguments, frozen=True, kw_only=True):
    """Make these revisions public in the CMS."""

    revisions: dict[Locale, Written]


class StandingFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of the repository as it stands."""

    locale: Locale
    blob: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{40}\Z")]


class RemoveArgs(Arguments, frozen=True, kw_only=True):
    """Commit that these files are gone."""

    files: Annotated[tuple[StandingFile, ...], msgspec.Meta(min_length=1, max_length=20)]


class WithdrawArgs(Arguments, frozen=True, kw_only=True):
    """Make an article public no more."""

    reason: Line


class RevertArgs(Arguments, frozen=True, kw_only=True):
    """Bring back what stood before the commit under a key; a compensation, never a step of its own."""

    commit_key: Key


class HandOverArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message that a person must read: why, and what was made of it so far."""

    by: Name
    message: Annotated[str, msgspec.Meta(max_length=8_000)]
    reason: Annotated[str, msgspec.Meta(max_length=2_000)]
    options: Annotated[tuple[str, ...], msgspec.Meta(max_length=10)] = ()


ARGUMENTS: Mapping[str, type[Arguments]] = {
    "content.brief": BriefArgs,
    "content.assign": AssignArgs,
    "content.draft": PageArgs,
    "content.localise": PageArgs,
    "content.edit": EditArgs,
    "content.merge": MergeArgs,
    "content.review": ReviewArgs,
    "content.correct": CorrectArgs,
    "content.commit": CommitArgs,
    "content.release": ReleaseArgs,
    "content.remove": RemoveArgs,
    "content.withdraw": WithdrawArgs,
    "content.revert": RevertArgs,
}
