"""What organisational memory is to hold of a brief: what it says, fact by fact, so that plans can cite it. Pure.

The rule: only what the CMS has taken on is remembered, from completed tasks; a corrected fact takes the place of the
wrong one, since it comes from the same source.
"""

from typing import Any

import msgspec

from mesh.facts import Claim, Source, SourceKind, ValueType
from mesh.records import Context
from packs.content.cms.documents import Fact
from packs.content.events import BriefSubmitted, CorrectionRequested

_TYPES = {"content.brief.submitted": BriefSubmitted, "content.correction.requested": CorrectionRequested}


def remembered(context: Context) -> tuple[Claim, ...]:
    """The claims of a completed task; none of most."""
    kind = _TYPES.get(context.event.type)
    try:
        asked = msgspec.json.decode(context.data, type=kind) if kind else None
    except msgspec.DecodeError:
        return ()
    match asked:
        case BriefSubmitted(slug=slug, brief=brief):
            found = [_fact(slug, fact) for fact in brief.facts]
            found += [
                _claim(slug, f"licence/{image.id}", f"{image.licence} {image.attribution}".strip())
                for image in brief.images
            ]
            parts = {"audience": brief.audience, "tone": brief.tone, "embargo": brief.embargo}
            parts["banned"] = ", ".join(brief.banned)
            return (*found, *(_claim(slug, name, value) for name, value in parts.items() if value))
        case CorrectionRequested(slug=slug):
            return (_fact(slug, Fact(id=asked.fact, text=asked.text, source=asked.source)),)
    return ()


def _fact(slug: str, fact: Fact) -> Claim:
    return _claim(slug, f"fact/{fact.id}", {"text": fact.text, "source": fact.source}, f"{slug}: {fact.text}")


def _claim(slug: str, predicate: str, value: Any, text: str = "") -> Claim:
    return Claim(
        subject=f"brief/{slug}",
        predicate=predicate,
        value=msgspec.Raw(msgspec.json.encode(value)),
        type=ValueType.TEXT if isinstance(value, str) else ValueType.OBJECT,
        text=text,
        source=Source(uri=f"cms:{slug}", kind=SourceKind.SYSTEM),
    )
