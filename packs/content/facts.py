"""The facts that the studio's policies see, and how a step is held against what was asked for. Pure.

The rule: what a step must be is made anew from the event, the CMS and the repository; a step that differs is not what
was asked for.
"""

import msgspec

from packs.content.arguments import (
    Arguments,
    AssignArgs,
    BriefArgs,
    CommitArgs,
    CorrectArgs,
    MergeArgs,
    PageArgs,
    ReleaseArgs,
    RemoveArgs,
    ReviewArgs,
    WithdrawArgs,
)
from packs.content.cms.documents import SOURCE, Article, Person
from packs.content.drafting import STUDIO
from packs.content.events import (
    Asked,
    BriefSubmitted,
    CorrectionRequested,
    DraftRequested,
    EditSubmitted,
    LocalisationRequested,
    MergeRequested,
    PublishRequested,
    ReviewGiven,
    TakedownRequested,
)
from packs.content.text import look, untranslated
from packs.content.views import SITE, Composed, MergeView, Publication, embargo_s

PRODUCER, EDITOR, TRANSLATOR = "producer", "editor", "translator"


class PersonRef(msgspec.Struct, frozen=True, kw_only=True):
    """A person as policies name one."""

    type: str = "Person"
    id: str


class ContentFacts(msgspec.Struct, frozen=True, kw_only=True):
    """``context.facts`` of every step; of what cannot be read all is false.

    ``known``: the asker is of the staff and the event came by a channel of theirs. ``may``: their roles and languages
    allow it. ``on_head``: a text is made from what stands. ``shown``: a merge shows what is merged, to the letter.
    ``own_text``: the reviewer wrote in it. ``complete``: every language has an approved text of the source as it is.
    ``site_known``: each file of the site holds a text that the CMS knows. ``embargo``: Unix seconds, 0 for none.
    ``authors``: who wrote what is about to stand.
    """

    found: bool = False
    as_asked: bool = False
    known: bool = False
    may: bool = False
    on_head: bool = False
    shown: bool = False
    clean: bool = False
    corrected: bool = False
    safe: bool = False
    sourced: bool = False
    quoted: bool = False
    allowed_words: bool = False
    licensed: bool = False
    own_text: bool = False
    reviewed: bool = False
    complete: bool = False
    site_known: bool = False
    live: bool = False
    embargo: int = 0
    authors: tuple[PersonRef, ...] = ()


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read for a step. ``made`` is the text by template, ``merged`` how a person's text fits what stands,
    ``corrector`` who has corrected the plan.
    """

    article: Article
    staff: tuple[Person, ...]
    glossary: dict[str, dict[str, str]] = {}
    made: Composed | None = None
    merged: MergeView | None = None
    publication: Publication | None = None
    by_model: bool = False
    corrector: str = ""


def facts_of(event_source: str, asked: Asked | MergeRequested, args: Arguments, seen: Seen) -> ContentFacts:
    """The facts of a step."""
    article = seen.article
    person = next((each for each in seen.staff if isinstance(asked, Asked) and each.name == asked.by), None)
    if isinstance(asked, MergeRequested):
        known = event_source == "/cms" and seen.merged is not None and seen.merged.settles == asked.merge
    else:
        known = person is not None and event_source in person.channels
    facts = ContentFacts(
        found=article.brief is not None or isinstance(asked, BriefSubmitted),
        as_asked=args.slug == asked.slug and is_as_asked(asked, args, seen),
        known=known,
        may=isinstance(asked, MergeRequested) or (person is not None and may(person, asked)),
        corrected=bool(seen.corrector),
        on_head=True,
        shown=True,
        clean=True,
        live=article.release is not None and article.release.state == "live",
        embargo=embargo_s(article),
    )
    return _about_texts(facts, asked, args, seen)


def is_as_asked(asked: Asked | MergeRequested, args: Arguments, seen: Seen) -> bool:
    """Whether the arguments are those that the event asks for."""
    match asked, args:
        case BriefSubmitted(), BriefArgs():
            return args.brief == asked.brief and args.by == asked.by
        case BriefSubmitted(), AssignArgs():
            return assigned_well(args, asked, seen.staff)
        case ((BriefSubmitted() | DraftRequested() | LocalisationRequested()), PageArgs()):
            return _is_made(asked, args, seen)
        case EditSubmitted(), PageArgs():
            return (args.locale, args.author) == (asked.locale, asked.by) and _is_merged(args, seen)
        case EditSubmitted(), MergeArgs():
            return (args.locale, args.author, args.ours) == (asked.locale, asked.by, asked.text)
        case ((PublishRequested() | MergeRequested()), (PageArgs() | MergeArgs())):
            moved = seen.publication.moved if seen.publication else seen.merged
            if moved is None or (args.locale, args.author) != (moved.locale, moved.author):
                return False
            return args.ours == moved.ours if isinstance(args, MergeArgs) else _is_merged(args, seen)
        case ReviewGiven(), ReviewArgs():
            same = (asked.locale, asked.revision, asked.by, asked.verdict, asked.comment)
            return (args.locale, args.revision, args.reviewer, args.verdict, args.comment) == same
        case CorrectionRequested(), CorrectArgs(fact=fact):
            return (fact.id, fact.text, fact.source) == (asked.fact, asked.text, asked.source)
        case PublishRequested(), CommitArgs():
            return seen.publication is not None and args.files == seen.publication.files
        case PublishRequested(), ReleaseArgs():
            return seen.publication is not None and args.revisions == seen.publication.revisions
        case TakedownRequested(), RemoveArgs():
            return seen.publication is not None and args.files == seen.publication.standing
        case TakedownRequested(), WithdrawArgs():
            return args.reason == asked.reason
    return False


def may(person: Person, asked: Asked) -> bool:
    """Whether a person's roles and languages allow what they ask for."""
    match asked:
        case EditSubmitted(locale=locale) | ReviewGiven(locale=locale):
            fit = EDITOR if locale == SOURCE else TRANSLATOR
            return locale in person.languages and bool({fit, EDITOR} & set(person.roles))
        case DraftRequested() | LocalisationRequested():
            return bool({EDITOR, PRODUCER} & set(person.roles))
    return PRODUCER in person.roles


def assigned_well(args: AssignArgs, asked: BriefSubmitted, staff: tuple[Person, ...]) -> bool:
    """Whether each language goes to somebody of the role and the language."""
    by_name = {person.name: person for person in staff}
    for locale, name in args.people.items():
        person = by_name.get(name)
        role = EDITOR if locale == SOURCE else TRANSLATOR
        if person is None or locale not in (*asked.brief.locales, SOURCE):
            return False
        if role not in person.roles or locale not in person.languages:
            return False
    return True


def _is_made(asked: Asked | MergeRequested, args: PageArgs, seen: Seen) -> bool:
    """Whether a text is the template's, where the event asks for one; a model's own words are for a person to judge."""
    made = seen.made
    wanted = asked.locales if isinstance(asked, LocalisationRequested) else (SOURCE,)
    if made is None or args.locale not in wanted or args.author != STUDIO or args.of != made.of:
        return False
    if isinstance(asked, DraftRequested) and args.on != asked.base:
        return False
    return (args.text == made.text and not made.conflicts) or (seen.by_model and not seen.corrector)


def _is_merged(args: PageArgs, seen: Seen) -> bool:
    """Whether a text is what was handed in, or what a clean merge makes of it."""
    merged = seen.publication.moved if seen.publication else seen.merged
    return (
        merged is not None and merged.state in ("ahead", "clean") and (args.text, args.of) == (merged.text, merged.of)
    )


def _is_shown(args: MergeArgs, merged: MergeView | None, corrector: str) -> bool:
    """Whether a merge shows what is merged; a text that a person wrote in its place names that person."""
    if merged is None:
        return False
    theirs = (merged.base, merged.ours, merged.theirs, merged.conflicts, merged.of)
    if (args.base, args.ours, args.theirs, args.conflicts, args.of) != theirs:
        return False
    if args.text == merged.text:
        return not args.editor
    return bool(corrector) and args.editor == corrector


def _about_texts(facts: ContentFacts, asked: Asked | MergeRequested, args: Arguments, seen: Seen) -> ContentFacts:
    """The facts with what the texts of the step say: that which it writes, or those that it approves or publishes."""
    change = msgspec.structs.replace
    match args:
        case PageArgs():
            head = seen.article.page(args.locale)
            on_head = args.on == (head.revision if head else 0)
            return change(_looked(facts, seen, [args.text]), on_head=on_head, authors=_people(args.author))
        case MergeArgs():
            merged = seen.publication.moved if seen.publication else seen.merged
            head = seen.article.page(args.locale)
            return change(
                _looked(facts, seen, [args.text]),
                on_head=merged is not None and args.on == merged.on and args.settles == merged.settles,
                shown=_is_shown(args, merged, seen.corrector),
                clean=args.conflicts == 0,
                authors=_people(args.author, args.editor, *(head.authors if head else ())),
            )
        case ReviewArgs():
            page = seen.article.page(args.locale)
            here = page is not None and page.revision == args.revision
            looked = _looked(facts, seen, [page.text] if page else [])
            own = page is not None and args.reviewer in page.authors
            return change(looked, on_head=here, own_text=own, complete=is_current(seen, args.locale))
        case CommitArgs() | ReleaseArgs():
            return _of_publication(facts, seen)
        case RemoveArgs():
            return change(facts, safe=True, site_known=_site_known(seen))
    return change(facts, safe=True)


def _of_publication(facts: ContentFacts, seen: Seen) -> ContentFacts:
    article, found = seen.article, seen.publication
    heads = [article.page(locale) for locale in (article.brief.locales if article.brief else ())]
    texts = [page.text for page in heads if page is not None]
    return msgspec.structs.replace(
        _looked(facts, seen, texts),
        reviewed=all(page is not None and is_approved(article, page.locale) for page in heads),
        complete=None not in heads and all(page is not None and is_current(seen, page.locale) for page in heads),
        site_known=_site_known(seen),
        authors=_people(*(name for page in heads if page is not None for name in page.authors)),
        on_head=found is not None and not found.missing,
    )


def is_approved(article: Article, locale: str) -> bool:
    """Whether somebody who did not write in it has approved the head, and nobody has asked for changes since."""
    page = article.page(locale)
    words = [each for each in article.reviews if each.locale == locale]
    if page is None or not words:
        return False
    return words[-1].verdict == "approved" and words[-1].reviewer not in page.authors


def is_current(seen: Seen, locale: str) -> bool:
    """Whether a text is of the source as it is now, and wholly in its language."""
    page, source = seen.article.page(locale), seen.article.page(SOURCE)
    if page is None or source is None or locale == SOURCE:
        return page is not None
    words = seen.glossary.get(locale, {})
    same = [text for text, to in words.items() if text == to]
    return page.of == source.revision and not untranslated(page.text, source.text, same)


def _looked(facts: ContentFacts, seen: Seen, texts: list[str]) -> ContentFacts:
    brief = seen.article.brief
    if brief is None and not texts:
        return facts
    found = [look(text, brief) for text in texts] if brief else []
    return msgspec.structs.replace(
        facts,
        safe=bool(texts) and not any(each.markup for each in found),
        sourced=not any(each.unsourced for each in found),
        quoted=not any(each.misquoted for each in found),
        allowed_words=not any(each.banned for each in found),
        licensed=not any(each.unlicensed for each in found),
    )


def _site_known(seen: Seen) -> bool:
    """Whether nobody has changed a file since it was published."""
    return seen.publication is not None and seen.publication.moved.state in ("unknown", "same")


def _people(*names: str) -> tuple[PersonRef, ...]:
    return tuple(PersonRef(id=name) for name in dict.fromkeys(names) if name not in ("", SITE))
