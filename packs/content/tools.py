"""The studio's tools: texts, reviews and releases in the CMS, commits to the site, and what plans are made with.

The rule: every text names the revision that it was made from; one that does not fit is merged where that is clean, and
kept for a person where it is not. Nothing is written over.
"""

from typing import Any

import msgspec

from mesh.errors import ToolRefusedError
from mesh.tools import Recovery, Risk, Tool, ToolCall, ToolFunction, VerifyFunction
from packs.content.arguments import (
    ARGUMENTS,
    AssignArgs,
    BriefArgs,
    CommitArgs,
    CorrectArgs,
    HandOverArgs,
    MergeArgs,
    PageArgs,
    ReleaseArgs,
    RemoveArgs,
    RevertArgs,
    ReviewArgs,
    WithdrawArgs,
)
from packs.content.client import Cms, StaleError
from packs.content.cms.changes import AddReview, Assign, Correct, KeepMerge, Publish, PutBrief, PutPage
from packs.content.cms.documents import Done, Release, Review, text_digest
from packs.content.merging import merge
from packs.content.page import path_of, render
from packs.content.reads import CMS, READS, SITE_TARGET, Site
from packs.content.repository import Committed
from packs.content.text import look
from packs.content.views import is_embargoed

_TIMEOUT_S = 3.0
_SITE_TIMEOUT_S = 10.0  # a commit is some files with fsync, under a lock that others may hold
_TRIES = 3

_DOES = {
    "content.brief": "take a brief on",
    "content.assign": "give an article to an editor and translators",
    "content.draft": "write the source text from the brief",
    "content.localise": "bring the text into another language",
    "content.edit": "take a person's text over",
    "content.merge": "bring two texts of one base together",
    "content.review": "put a reviewer's word on record",
    "content.correct": "put a fact of the brief right",
    "content.release": "make an article public in the CMS",
    "content.withdraw": "make an article public no more",
}


def make_tools() -> tuple[Tool, ...]:
    """All tools of the pack."""
    changes = (_cms_tool(name, run) for name, run in _RUNS.items())
    site = (_site_tool(name, run, does) for name, (run, does) in _SITE_RUNS.items())
    return (*changes, *site, *READS, _HAND_OVER)


def _cms_tool(name: str, run: ToolFunction) -> Tool:
    return Tool(
        name=name,
        args=ARGUMENTS[name],
        run=run,
        recovery=Recovery.IDEMPOTENT,
        verify=_verify_change,
        target=CMS,
        timeout_s=_TIMEOUT_S,
        description=_DOES[name],
    )


def _site_tool(name: str, run: ToolFunction, does: str) -> Tool:
    verify: VerifyFunction = _verify_commit
    return Tool(
        name=name,
        args=ARGUMENTS[name],
        run=run,
        recovery=Recovery.VERIFIABLE,
        verify=verify,
        target=SITE_TARGET,
        timeout_s=_SITE_TIMEOUT_S,
        description=does,
        risk=Risk.HIGH,
        compensation="content.revert" if name != "content.revert" else "",
    )


async def _verify_change(_: Any, call: ToolCall) -> Done | None:
    cms: Cms = call.system
    return await cms.done(call.key)


async def _verify_commit(_: Any, call: ToolCall) -> Committed | None:
    site: Site = call.system
    return await site.repository.find(call.key)


async def _change(call: ToolCall, change: Any, on: int | None = None) -> Done:
    cms: Cms = call.system
    return await cms.change(change, key=call.key, call_by=call.call_by, on=on, traceparent=call.traceparent)


async def _brief(args: BriefArgs, call: ToolCall) -> Done:
    return await _change(call, PutBrief(slug=args.slug, brief=args.brief, requested_by=args.by))


async def _assign(args: AssignArgs, call: ToolCall) -> Done:
    return await _change(call, Assign(slug=args.slug, people=args.people))


async def _write(args: PageArgs, call: ToolCall) -> Done:
    """A text that can be made again: on a page that has moved on it is refused."""
    change = PutPage(slug=args.slug, locale=args.locale, text=args.text, author=args.author, of=args.of)
    return await _change(call, change, args.on)


async def _edit(args: PageArgs, call: ToolCall) -> Done:
    """A person's text: on a page that has moved on it is merged, or kept for a person."""
    change = PutPage(slug=args.slug, locale=args.locale, text=args.text, author=args.author, of=args.of)
    try:
        return await _change(call, change, args.on)
    except StaleError as stale:
        return await _bring_together(change, args.on, call, stale.head)


async def _merge(args: MergeArgs, call: ToolCall) -> Done:
    """A merge as a person saw it; when the page has moved on since, it is merged again."""
    change = PutPage(
        slug=args.slug,
        locale=args.locale,
        text=args.text,
        author=args.author,
        of=args.of,
        co_author=args.editor or None,
        merges=text_digest(args.ours),
        settles=args.settles,
    )
    try:
        return await _change(call, change, args.on)
    except StaleError as stale:
        return await _bring_together(change, args.on, call, stale.head)


async def _bring_together(change: PutPage, on: int, call: ToolCall, head: int) -> Done:
    """Merge a text made from revision ``on`` into what stands; where that is not clean, keep both for a person."""
    cms: Cms = call.system
    base = await cms.page(change.slug, change.locale, on) if on else None
    if on and base is None:
        raise ToolRefusedError("no_base", f"{change.slug}/{change.locale} has no revision {on}")
    for _ in range(_TRIES):
        article = await cms.article(change.slug)
        standing = article.page(change.locale)
        merged = merge(base.text if base else "", change.text, standing.text if standing else "")
        if article.brief is None or not merged.clean or look(merged.text, article.brief).markup:
            break
        try:
            digest = change.merges or text_digest(change.text)
            together = msgspec.structs.replace(change, text=merged.text, merges=digest)
            return await _change(call, together, standing.revision if standing else 0)
        except StaleError:
            continue
    kept = KeepMerge(
        slug=change.slug,
        locale=change.locale,
        base=on,
        text=change.text,
        author=change.author,
        settles=change.settles,
    )
    return await _change(call, kept)


async def _review(args: ReviewArgs, call: ToolCall) -> Done:
    review = Review(
        locale=args.locale,
        revision=args.revision,
        reviewer=args.reviewer,
        verdict=args.verdict,
        comment=args.comment,
    )
    return await _change(call, AddReview(slug=args.slug, review=review))


async def _correct(args: CorrectArgs, call: ToolCall) -> Done:
    return await _change(call, Correct(slug=args.slug, fact=args.fact))


async def _release(args: ReleaseArgs, call: ToolCall) -> Done:
    return await _change(call, Publish(slug=args.slug, release=Release(state="live", revisions=args.revisions)))


async def _withdraw(args: WithdrawArgs, call: ToolCall) -> Done:
    return await _change(call, Publish(slug=args.slug, release=Release(state="withdrawn", revisions={})))


async def _commit(args: CommitArgs, call: ToolCall) -> Committed:
    site: Site = call.system
    article = await site.cms.article(args.slug)
    if article.brief is None:
        raise ToolRefusedError("no_article", f"there is no article {args.slug}")
    if is_embargoed(article):
        raise ToolRefusedError("embargo", f"{args.slug} is under embargo until {article.brief.embargo}")
    files: dict[str, str | None] = {}
    for file in args.files:
        page = await site.cms.page(args.slug, file.locale, file.revision)
        if page is None:
            raise ToolRefusedError("no_page", f"{args.slug}/{file.locale} has no revision {file.revision}")
        files[path_of(args.slug, file.locale)] = render(args.slug, page, article.brief)
    expect = {path_of(args.slug, file.locale): file.blob for file in args.files}
    return await site.repository.commit(call.key, call.call_by, f"Publish {args.slug}", files, expect)


async def _remove(args: RemoveArgs, call: ToolCall) -> Committed:
    site: Site = call.system
    expect = {path_of(args.slug, file.locale): file.blob for file in args.files}
    files: dict[str, str | None] = dict.fromkeys(expect)
    return await site.repository.commit(call.key, call.call_by, f"Take down {args.slug}", files, expect)


async def _revert(args: RevertArgs, call: ToolCall) -> Committed:
    site: Site = call.system
    return await site.repository.revert(call.key, call.call_by, args.commit_key)


_RUNS: dict[str, ToolFunction] = {
    "content.brief": _brief,
    "content.assign": _assign,
    "content.draft": _write,
    "content.localise": _write,
    "content.edit": _edit,
    "content.merge": _merge,
    "content.review": _review,
    "content.correct": _correct,
    "content.release": _release,
    "content.withdraw": _withdraw,
}
_SITE_RUNS: dict[str, tuple[ToolFunction, str]] = {
    "content.commit": (_commit, "commit an article to the site's repository"),
    "content.remove": (_remove, "commit that an article is gone"),
    "content.revert": (_revert, "bring back what stood before a commit"),
}


class HandedOver(msgspec.Struct, frozen=True, kw_only=True):
    """A person has taken the message on."""

    taken: bool = True


async def _take_over(_: HandOverArgs, __: ToolCall) -> HandedOver:
    return HandedOver()


# The person's approval is all there is to it: it says that the message was seen to, and the journal keeps that.
_HAND_OVER = Tool(
    name="content.hand-over",
    args=HandOverArgs,
    run=_take_over,
    recovery=Recovery.IDEMPOTENT,
    description="have a person read a message and see to it",
)
