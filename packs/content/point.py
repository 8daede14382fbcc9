"""The policy information point: what policy must know of a step, read now from the CMS and the repository.

The rule: it never takes the plan's word; who asks, and for what, stands in the event, and their rights in the CMS.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from mesh.canonical import effect_key
from mesh.errors import NotSentError, RetryableError
from mesh.grounding import Sources
from mesh.pack import Sheet
from mesh.records import Context, Origin, Party, Plan, Step
from packs.content.arguments import ARGUMENTS, Arguments, HandOverArgs, PageArgs, RevertArgs, ReviewArgs
from packs.content.cms.documents import SOURCE, Brief
from packs.content.events import (
    EVENTS,
    MESSAGE,
    Asked,
    BriefSubmitted,
    DraftRequested,
    EditSubmitted,
    LocalisationRequested,
    MergeRequested,
    MessageReceived,
    PublishRequested,
    TakedownRequested,
)
from packs.content.facts import ContentFacts, Seen, facts_of
from packs.content.reads import SITE_TARGET, Site, composed, merged, open_merge, published

HAND_OVER = "content.hand-over"
REVERT = "content.revert"
DRAFT, LOCALISE = "content.draft", "content.localise"
ARTICLE = "article"

_CORRECTED = re.compile(r"corrected by ([^ ]+) \(")

_REQUESTS = {kind.name: kind.data for kind in EVENTS}
_SOURCE_SAID = "the CMS and the repository, read now"


async def read_facts(context: Context, plan: Plan, step: Step, systems: Mapping[str, Any]) -> Sheet:
    """The facts of a step; raises ``RetryableError`` while the CMS cannot be asked.

    Of an event or a step that cannot be read, every fact is false: policy denies it.
    """
    if step.call.tool == HAND_OVER:
        return _of_hand_over(context, step)
    asked, args = requested(context, plan, step), _arguments(step)
    if asked is None or args is None or not _undoes_itself(context, asked, step):
        return _sheet(ContentFacts())
    try:
        seen = await _look(plan, asked, args, systems)
    except NotSentError as error:
        raise RetryableError(f"step {step.id}: the CMS cannot be asked about {asked.slug}: {error}") from error
    facts = facts_of(context.event.source, asked, args, seen)
    return _sheet(facts, (Party(kind=ARTICLE, id=asked.slug),))


async def _look(plan: Plan, asked: Asked | MergeRequested, args: Arguments, systems: Mapping[str, Any]) -> Seen:
    site: Site = systems[SITE_TARGET]
    cms = site.cms
    article = await cms.article(asked.slug)
    of_brief = asked.brief if isinstance(asked, BriefSubmitted) else None
    seen = Seen(
        article=article if article.brief else msgspec.structs.replace(article, brief=of_brief),
        staff=tuple(await cms.staff()),
        by_model=plan.origin is Origin.MODEL,
        corrector=_corrector(plan),
    )
    if of_brief is not None and article.brief is not None and article.brief != of_brief:
        return msgspec.structs.replace(seen, article=article)  # the step will not be as asked: the slug is taken
    change = msgspec.structs.replace
    match asked:
        case EditSubmitted():
            seen = change(
                seen, merged=await merged(cms, article, asked.locale, asked.base, asked.text, asked.by, asked.of)
            )
        case MergeRequested():
            seen = change(seen, merged=await open_merge(cms, article, asked.merge))
        case PublishRequested() | TakedownRequested():
            seen = change(seen, publication=await published(site, article))
            locales = article.brief.locales if article.brief else ()
            words = {locale: await cms.glossary(locale) for locale in locales if locale != SOURCE}
            return change(seen, glossary=words)
    if isinstance(args, ReviewArgs) and args.locale != SOURCE:
        seen = change(seen, glossary={args.locale: await cms.glossary(args.locale)})
    if isinstance(args, PageArgs) and not isinstance(asked, EditSubmitted | MergeRequested):
        seen = change(seen, made=await composed(cms, article, args.locale, _brief(of_brief, article.brief)))
    return seen


def requested(context: Context, plan: Plan, step: Step) -> Asked | MergeRequested | None:
    """What is asked for, or ``None`` when it is none of this pack's requests.

    What models read in a message counts only as far as the message bears it out: it names the article, and who asks is
    who wrote it. Of a message that was not read so only a text for the article that the step names counts.
    """
    kind = _REQUESTS.get(context.event.type)
    try:
        if context.event.type != MESSAGE:
            request: object = msgspec.json.decode(context.data, type=kind) if kind else None
        else:
            request = _in_message(context, plan, step)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return request if isinstance(request, Asked | MergeRequested) else None


def _in_message(context: Context, plan: Plan, step: Step) -> object:
    written = msgspec.json.decode(context.data, type=MessageReceived)
    request: object = None
    if plan.understood is not None:
        kind = _REQUESTS.get(plan.understood.event_type)
        request = msgspec.json.decode(plan.understood.data, type=kind) if kind else None
    elif step.call.tool in (DRAFT, LOCALISE):
        args = msgspec.json.decode(step.call.args, type=PageArgs)
        if step.call.tool == DRAFT:
            request = DraftRequested(slug=args.slug, by=written.by, base=args.on)
        elif args.locale != SOURCE:
            request = LocalisationRequested(slug=args.slug, by=written.by, locales=(args.locale,))
    if not isinstance(request, Asked) or request.by != written.by:
        return None
    return request if Sources([written.message]).holds(request.slug) else None


def _of_hand_over(context: Context, step: Step) -> Sheet:
    """A message that a person is to read: nothing is changed by it."""
    try:
        written = msgspec.json.decode(context.data, type=MessageReceived)
        args = msgspec.json.decode(step.call.args, type=HandOverArgs)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _sheet(ContentFacts())
    same = args.by == written.by and args.message == written.message
    return _sheet(ContentFacts(found=True, as_asked=same, known=True, may=True, safe=True, on_head=True, shown=True))


def _corrector(plan: Plan) -> str:
    """Who has corrected the plan last, as policy notes it; only policy may write such a plan."""
    found = _CORRECTED.match(plan.notes[-1]) if plan.revision and not plan.anew and plan.notes else None
    return found.group(1) if found else ("?" if plan.revision and not plan.anew else "")


def _brief(asked: Brief | None, stands: Brief | None) -> Brief | None:
    return stands or asked


def _arguments(step: Step) -> Arguments | None:
    """The step's arguments, or ``None`` when they are not its tool's, or the tool is no step."""
    kind = ARGUMENTS.get(step.call.tool)
    try:
        args = msgspec.json.decode(step.call.args, type=kind) if kind else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return None if isinstance(args, RevertArgs) else args


def _undoes_itself(context: Context, asked: Asked | MergeRequested, step: Step) -> bool:
    """Whether the compensation, if there is one, takes back this step's own commit and nothing else."""
    undo = step.compensation
    if undo is None:
        return True
    try:
        args = msgspec.json.decode(undo.args, type=RevertArgs)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    own = effect_key(context.header.task_id, step.id)
    return (undo.tool, args.slug, args.commit_key) == (REVERT, asked.slug, own)


def _sheet(facts: ContentFacts, parties: tuple[Party, ...] = ()) -> Sheet:
    return Sheet(facts=msgspec.Raw(msgspec.json.encode(facts)), parties=parties, source=_SOURCE_SAID)
