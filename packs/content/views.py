"""What planning looks at: an article, a merge, a publication. Made of the CMS's and the repository's answers. Pure."""

from datetime import datetime
from typing import Literal

import msgspec

from packs.content.arguments import File, StandingFile
from packs.content.cms.documents import SOURCE, Article, text_digest
from packs.content.merging import merge
from packs.content.page import path_of, text_in


class ArticleView(msgspec.Struct, frozen=True, kw_only=True):
    """An article: the revision of each head, and what is public."""

    found: bool
    title: str = ""
    locales: tuple[str, ...] = ()
    heads: dict[str, int] = msgspec.field(default_factory=dict)
    state: str = "none"
    facts: tuple[str, ...] = ()


class Composed(msgspec.Struct, frozen=True, kw_only=True):
    """A text by template, the revision that it goes on, and the source's revision that it translates.

    What people have changed in a translation is merged into it; ``conflicts`` counts the places where the source has
    changed as well.
    """

    found: bool
    text: str = ""
    on: int = 0
    of: int = 0
    conflicts: int = 0


class Staffing(msgspec.Struct, frozen=True, kw_only=True):
    """Who could see to an article, and the languages that nobody has room for."""

    people: dict[str, str]
    missing: tuple[str, ...] = ()


class MergeView(msgspec.Struct, frozen=True, kw_only=True):
    """Two texts of one base. ``state``: ``ahead`` when nothing else changed, ``clean``, ``conflict``, ``same`` when
    there is nothing to do, ``unknown`` when there is no such article or base.
    """

    state: Literal["ahead", "clean", "conflict", "same", "unknown"] = "unknown"
    locale: str = ""
    on: int = 0
    base: str = ""
    ours: str = ""
    theirs: str = ""
    text: str = ""
    conflicts: int = 0
    author: str = ""
    of: int = 0
    settles: str = ""


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """What would be published. ``missing`` are languages without a text; ``moved`` one whose file others changed."""

    found: bool
    embargoed: bool = False
    embargo: str = ""
    state: str = "none"
    files: tuple[File, ...] = ()
    revisions: dict[str, int] = msgspec.field(default_factory=dict)
    standing: tuple[StandingFile, ...] = ()
    missing: tuple[str, ...] = ()
    moved: MergeView = MergeView()


def article_view(article: Article) -> ArticleView:
    """The view of an article."""
    if article.brief is None:
        return ArticleView(found=False)
    return ArticleView(
        found=True,
        title=article.brief.title,
        locales=article.brief.locales,
        heads={page.locale: page.revision for page in article.pages},
        state=article.release.state if article.release else "none",
        facts=tuple(fact.id for fact in article.brief.facts),
    )


def merge_view(
    article: Article, locale: str, base: str | None, ours: str, author: str, made_on: int, of: int = 0
) -> MergeView:
    """What must be done to have ``ours``, made from the text ``base`` of revision ``made_on``, stand.

    ``of`` is the source's revision that it translates, 0 for that of what stands.
    """
    head = article.page(locale)
    standing, on = (head.text, head.revision) if head else ("", 0)
    source = article.page(SOURCE)
    written = source.revision if source else 0
    if article.brief is None or base is None or of > written or (of and locale == SOURCE):
        return MergeView(locale=locale, on=on)
    if locale != SOURCE:
        of = of or (head.of if head else 0) or written
    seen = MergeView(locale=locale, on=on, base=base, ours=ours, theirs=standing, text=ours, author=author, of=of)
    if head is not None and of == head.of and (ours == standing or text_digest(ours) in head.merges):
        return msgspec.structs.replace(seen, state="same")
    if made_on == on:
        return msgspec.structs.replace(seen, state="ahead")
    merged = merge(base, ours, standing)
    state: Literal["clean", "conflict"] = "clean" if merged.clean else "conflict"
    return msgspec.structs.replace(seen, state=state, text=merged.text, conflicts=merged.conflicts)


def publication(article: Article, files: dict[str, tuple[str, str]], bases: dict[str, str]) -> Publication:
    """What would be published of an article; ``files`` are blob and text by path, ``bases`` what was public before."""
    brief = article.brief
    if brief is None:
        return Publication(found=False)
    heads = {page.locale: page.revision for page in article.pages}
    blobs = {locale: files.get(path_of(article.slug, locale), ("", "")) for locale in brief.locales}
    return Publication(
        found=True,
        embargoed=is_embargoed(article),
        embargo=brief.embargo,
        state=article.release.state if article.release else "none",
        files=tuple(
            File(locale=locale, revision=heads[locale], blob=blobs[locale][0])
            for locale in brief.locales
            if locale in heads
        ),
        revisions={locale: heads[locale] for locale in brief.locales if locale in heads},
        standing=tuple(StandingFile(locale=locale, blob=blob) for locale, (blob, _) in blobs.items() if blob),
        missing=tuple(locale for locale in brief.locales if locale not in heads),
        moved=_moved(article, {locale: text_in(text) for locale, (blob, text) in blobs.items() if blob}, bases),
    )


def moved_locales(article: Article, texts: dict[str, str]) -> list[str]:
    """The languages whose file holds a text that the CMS never had."""
    return [locale for locale, text in texts.items() if text_digest(text) not in article.known.get(locale, ())]


def embargo_s(article: Article) -> int:
    """When the embargo ends, in Unix seconds; 0 for none."""
    until = article.brief.embargo if article.brief else ""
    return int(datetime.fromisoformat(until).timestamp()) if until else 0


def is_embargoed(article: Article) -> bool:
    """Whether nothing may be public yet, by the CMS's clock."""
    return article.now < embargo_s(article)


def _moved(article: Article, texts: dict[str, str], bases: dict[str, str]) -> MergeView:
    for locale in moved_locales(article, texts):
        public = article.release.revisions.get(locale, 0) if article.release else 0
        return merge_view(article, locale, bases.get(locale, ""), texts[locale], SITE, public)
    return MergeView()


SITE = "site"
