"""The pack's read-only tools: what plans are made with. Policy never relies on their answers."""

from dataclasses import dataclass
from typing import Annotated

import msgspec

from mesh.tools import Recovery, Tool, ToolCall, ToolFunction
from packs.content.arguments import Arguments
from packs.content.client import Cms
from packs.content.cms.documents import SOURCE, Article, Brief, Locale, Name, Revision, Text
from packs.content.drafting import STUDIO, assign, draft, localise
from packs.content.merging import merge
from packs.content.page import path_of
from packs.content.repository import Repository
from packs.content.views import (
    ArticleView,
    Composed,
    MergeView,
    Publication,
    Staffing,
    article_view,
    merge_view,
    publication,
)

CMS = "cms"
SITE_TARGET = "site"

_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Site:
    """The published site: its repository, and the CMS that its texts come from."""

    cms: Cms
    repository: Repository


class StaffingArgs(Arguments, frozen=True, kw_only=True):
    """The languages of an article."""

    locales: Annotated[tuple[Locale, ...], msgspec.Meta(max_length=20)]


class ComposeArgs(Arguments, frozen=True, kw_only=True):
    """A text by template in a language; of ``brief`` where the CMS has none yet."""

    locale: Locale
    brief: Brief | None = None


class MergedArgs(Arguments, frozen=True, kw_only=True):
    """A text handed in by somebody, made from revision ``base``, of revision ``of`` of the source."""

    locale: Locale
    base: Revision
    of: Revision = 0
    text: Text
    author: Name


class OpenMergeArgs(Arguments, frozen=True, kw_only=True):
    """A merge that the CMS keeps."""

    merge: Name


async def _article(args: Arguments, call: ToolCall) -> ArticleView:
    cms: Cms = call.system
    return article_view(await cms.article(args.slug))


async def _staffing(args: StaffingArgs, call: ToolCall) -> Staffing:
    cms: Cms = call.system
    people = assign(await cms.staff(), args.locales, SOURCE)
    return Staffing(people=people, missing=tuple(each for each in args.locales if each not in people))


async def _compose(args: ComposeArgs, call: ToolCall) -> Composed:
    cms: Cms = call.system
    return await composed(cms, await cms.article(args.slug), args.locale, args.brief)


async def composed(cms: Cms, article: Article, locale: str, brief: Brief | None = None) -> Composed:
    """The text by template that goes on the head of a language; not found without a brief or a source text."""
    head, source = article.page(locale), article.page(SOURCE)
    on = head.revision if head else 0
    if locale == SOURCE:
        known = article.brief or brief
        return Composed(found=True, text=draft(known), on=on) if known else Composed(found=False)
    if source is None:
        return Composed(found=False)
    glossary = await cms.glossary(locale)
    text = localise(source.text, glossary)
    if head is None or set(head.authors) <= {STUDIO}:
        return Composed(found=True, text=text, on=on, of=source.revision)
    before = await cms.page(article.slug, SOURCE, head.of)
    together = merge(localise(before.text, glossary) if before else "", text, head.text)
    return Composed(found=True, text=together.text, on=on, of=source.revision, conflicts=together.conflicts)


async def _merged(args: MergedArgs, call: ToolCall) -> MergeView:
    cms: Cms = call.system
    return await merged(cms, await cms.article(args.slug), args.locale, args.base, args.text, args.author, args.of)


async def merged(cms: Cms, article: Article, locale: str, on: int, text: str, author: str, of: int = 0) -> MergeView:
    """What must be done to have a text stand that was made from revision ``on``."""
    base = await cms.page(article.slug, locale, on) if on else None
    known = "" if on == 0 else base.text if base else None
    return merge_view(article, locale, known, text, author, on, of)


async def _open_merge(args: OpenMergeArgs, call: ToolCall) -> MergeView:
    cms: Cms = call.system
    return await open_merge(cms, await cms.article(args.slug), args.merge)


async def open_merge(cms: Cms, article: Article, name: str) -> MergeView:
    """A merge that the CMS keeps, against what stands now."""
    kept = await cms.merge(name)
    if kept is None or kept.slug != article.slug:
        return MergeView()
    found = await merged(cms, article, kept.locale, kept.base, kept.text, kept.author)
    if not kept.open:
        return msgspec.structs.replace(found, state="same")
    return msgspec.structs.replace(found, settles=kept.id)


async def _publication(args: Arguments, call: ToolCall) -> Publication:
    site: Site = call.system
    return await published(site, await site.cms.article(args.slug))


async def published(site: Site, article: Article) -> Publication:
    """What would be published, with the files that stand in the repository."""
    locales = article.brief.locales if article.brief else ()
    files = await site.repository.read([path_of(article.slug, locale) for locale in locales])
    bases: dict[str, str] = {}
    for locale, revision in article.release.revisions.items() if article.release else ():
        page = await site.cms.page(article.slug, locale, revision)
        bases[locale] = page.text if page else ""
    return publication(article, files, bases)


def _read(name: str, args: type[msgspec.Struct], run: ToolFunction, target: str, description: str) -> Tool:
    return Tool(
        name=name,
        args=args,
        run=run,
        recovery=Recovery.IDEMPOTENT,
        target=target,
        timeout_s=_TIMEOUT_S,
        read_only=True,
        description=description,
    )


READS = (
    _read("content.article", Arguments, _article, CMS, "what holds of an article"),
    _read("content.staffing", StaffingArgs, _staffing, CMS, "who could see to an article"),
    _read("content.compose", ComposeArgs, _compose, CMS, "the text that the template makes"),
    _read("content.merged", MergedArgs, _merged, CMS, "how a text fits what stands"),
    _read("content.open-merge", OpenMergeArgs, _open_merge, CMS, "a merge that the CMS keeps"),
    _read("content.publication", Arguments, _publication, SITE_TARGET, "what would be published"),
)
