"""``workmesh audit report``: one task as a page that a regulator can read: who, what, why, on what, by whom, proved."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import msgspec

from console.audit.page import Markup, clean, code, document, mark, page, pairs, section, table, tag
from console.audit.signatures import Signature, signature_of
from console.audit.timeline import timeline
from console.journal import state_of
from mesh.journal import Stored
from mesh.lifecycle import TaskState
from mesh.money import money
from mesh.records import (
    AnyRecord,
    Approval,
    Context,
    Decision,
    Effect,
    Outcome,
    Plan,
    Record,
    Result,
    Step,
    Verdict,
    Word,
)
from mesh.signed_note import LogCheckpoint
from mesh.trust import TrustDirectory

T = TypeVar("T", bound=Record)
_CLASSES = {Verdict.ALLOW: "yes", Verdict.DENY: "no", Verdict.NEEDS_APPROVAL: "must"}
_WORDS = {Word.APPROVE: "yes", Word.HAPPENED: "yes", Word.REJECT: "no"}
_ID = re.compile(r'@id\("([^"]*)"\)')


@dataclass(frozen=True, slots=True)
class Bundle:
    """A policy bundle of the bucket: its files, and why it is not what its digest says (nothing when it is)."""

    digest: str
    files: tuple[tuple[str, str], ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Proved:
    """The audit of the task's records: which of them the checkpoint covers, with what came of each check."""

    checkpoint: LogCheckpoint | None
    note: str = ""
    signed_at: str = ""
    key: str = ""
    problem: str = ""
    included: dict[int, bool] | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """All that a report is made of."""

    items: Sequence[Stored]
    digests: dict[int, str]
    directory: TrustDirectory
    bundles: dict[str, Bundle]
    proved: Proved
    at: datetime

    def of(self, kind: type[T]) -> list[T]:
        """The records of one kind, in order."""
        return [item.record for item in self.items if isinstance(item.record, kind)]

    def signature(self, record: AnyRecord) -> Signature | None:
        """The check of a record's own signature."""
        return signature_of(record, self.directory)


def render(case: Case) -> str:
    """The page. It works for a task of which only the first records are there."""
    head = case.items[0].record.header
    parts = [
        _title(case),
        section("Course", timeline(case.items, _start(case))),
        *_request(case),
        *(part for plan in case.of(Plan) for part in _plan(plan)),
        *(part for decision in case.of(Decision) for part in _decision(case, decision)),
        *_policies(case),
        _approvals(case),
        _effects(case),
        _proof(case),
    ]
    made = f"Made {case.at:%Y-%m-%d %H:%M:%S} UTC from the journal of the site with the root of trust "
    parts.append(tag("footer", tag("p", made, code(case.directory.root_public_key), class_="soft")))
    return page(f"Task {head.task_id}", *parts)


def _start(case: Case) -> datetime:
    context = next(iter(case.of(Context)), None)
    return context.event.accepted_at if context else case.items[0].time


def _title(case: Case) -> Markup:
    head = case.items[0].record.header
    state = state_of(list(case.items))
    context, outcome = next(iter(case.of(Context)), None), next(iter(case.of(Outcome)), None)
    plans = case.of(Plan)
    return tag(
        "header",
        tag("p", f"Audit report · {head.domain}", class_="kicker"),
        tag(
            "h1",
            context.event.type if context else "a task without its first record",
            tag("span", state.replace("_", " "), class_=f"badge {state}"),
        ),
        tag("p", _summary(case, state), class_="lead"),
        pairs(
            [
                ("Task", code(head.task_id)),
                ("Asked by", f"{context.event.source}, event {context.event.id}" if context else ""),
                ("About", context.entity if context else ""),
                ("Accepted", _time(context.event.accepted_at) if context else ""),
                ("Why so", (plans[-1].rationale or plans[-1].refusal) if plans else ""),
                ("Ended", _ended(case, outcome)),
                ("Money moved", money(outcome.amount, outcome.currency) if outcome and outcome.amount else ""),
                ("Trace", code(head.traceparent) if head.traceparent else ""),
            ]
        ),
    )


def _ended(case: Case, outcome: Outcome | None) -> str:
    if outcome is None:
        return "not yet"
    stored = next(item.time for item in case.items if item.record is outcome)
    return f"{_time(stored)}: {outcome.status}" + (f", {outcome.reason}" if outcome.reason else "")


def _summary(case: Case, state: TaskState) -> str:
    """What happened, in a sentence or two."""
    decisions, plans = case.of(Decision), case.of(Plan)
    tools = ", ".join(dict.fromkeys(step.call.tool for plan in plans[-1:] for step in plan.steps))
    people = [f"{said.statement.person} ({said.statement.role}, {said.statement.word})" for said in case.of(Approval)]
    outcome = next(iter(case.of(Outcome)), None)
    parts = [f"Proposed: {tools}." if tools else "Nothing was proposed to be done." if plans else "No plan yet."]
    if decisions:
        first = decisions[0]
        parts.append(f"Policy: {first.reason or first.verdict.replace('_', ' ')}.")
    if people:
        parts.append(f"People: {', '.join(people)}.")
    if outcome is not None:
        parts.append(f"It ended {outcome.status}" + (f": {outcome.reason}." if outcome.reason else "."))
    elif state is TaskState.WAITING and decisions:
        roles = sorted({role for step in decisions[-1].steps for role in step.roles})
        until = f" until {_time(decisions[-1].approve_by)}" if decisions[-1].approve_by else ""
        parts.append(f"It waits for {', '.join(roles) or 'a person'}{until}; nothing is done before.")
    else:
        parts.append(f"It has not ended: it is {state.replace('_', ' ')}.")
    return " ".join(parts)


def _request(case: Case) -> Iterable[Markup]:
    for context in case.of(Context):
        outside = ", ".join(context.taint) or "none"
        yield section(
            "What was asked",
            document(context.data),
            tag("p", f"Text from outside, taken as data and never as an instruction: {outside}", class_="soft"),
        )


def _revision(plan: Plan) -> str:
    return f"planned anew, {plan.revision}" if plan.anew else f"correction {plan.revision}"


def _plan(plan: Plan) -> Iterable[Markup]:
    title = "What was proposed" if not plan.revision else f"What was proposed instead ({_revision(plan)})"
    about = pairs(
        [
            ("Playbook", f"{plan.playbook} ({plan.playbook_digest})"),
            ("Refused, because", plan.refusal),
            ("Digest of the plan", code(plan.digest)),
            ("Models used", "; ".join(f"{use.model}, {use.cost_micro_usd / 1e6:.4f} USD" for use in plan.usage)),
            ("Notes", "; ".join(plan.notes)),
        ]
    )
    facts: list[Markup] = []
    if plan.readings:
        facts.append(tag("h3", "What the planner read"))
        facts.append(
            table(
                ("from", "what it answered"),
                ((reading.call.tool, document(reading.answer)) for reading in plan.readings),
            )
        )
    if plan.citations:
        facts.append(tag("h3", "What it remembered"))
        rows = ((f"{cited.fact_id}, version {cited.version}", cited.text, cited.source) for cited in plan.citations)
        facts.append(table(("fact", "text", "source"), rows))
    yield section(title, about, *(_step(step) for step in plan.steps), *facts)


def _step(step: Step) -> Markup:
    undo = f"{step.call.tool} is undone by {step.compensation.tool} " if step.compensation else ""
    return tag(
        "div",
        tag("h3", f"Step {step.id}: {step.call.tool}"),
        document(step.call.args),
        tag(
            "p",
            "Key: ",
            code(step.effect_key),
            f". Needs {', '.join(step.needs)}." if step.needs else ".",
            class_="soft",
        ),
        tag("p", undo, code(bytes(step.compensation.args).decode("utf-8", "replace")), class_="soft")
        if step.compensation
        else "",
    )


def _decision(case: Case, decision: Decision) -> Iterable[Markup]:
    title = "What policy decided" if decision.phase == "propose" else "What policy decided with the approvals"
    rows = [
        (
            step.step,
            tag("span", step.verdict.replace("_", " "), class_=_CLASSES[step.verdict]),
            ", ".join(step.policies) or "no policy permits it",
            "; ".join(step.reasons),
            ", ".join(step.roles) or "-",
        )
        for step in decision.steps
    ]
    known = {bytes(sheet.facts) for earlier in _before(case, decision) for sheet in earlier.sheets}
    facts = [
        tag(
            "div",
            tag("h3", f"Facts for step {sheet.step}"),
            pairs(
                [
                    ("Read from", sheet.source or "the system that owns them, by the pack's information point"),
                    ("Would move", money(sheet.amount, sheet.currency) if sheet.amount else "no money"),
                ]
            ),
            tag("p", "The same as before.", class_="soft") if bytes(sheet.facts) in known else document(sheet.facts),
        )
        for sheet in decision.sheets
    ]
    limits = [
        (use.limit, use.key, f"{use.used} + {use.adds} of {use.cap} {use.unit}", mark(not use.over, "within", "over"))
        for use in decision.limits
    ]
    yield section(
        title + (f" (revision {decision.revision})" if decision.revision else ""),
        pairs(
            [
                ("Verdict", decision.verdict.replace("_", " ")),
                ("Reason", decision.reason),
                ("On the plan", code(decision.plan_digest)),
                ("Under the policies", code(decision.bundle)),
                ("To be approved by", _time(decision.approve_by) if decision.approve_by else ""),
                ("Signed by policy", _signature(case.signature(decision))),
            ]
        ),
        table(("step", "verdict", "policies", "reasons", "roles"), rows) if rows else "",
        table(("limit", "of", "used", ""), limits) if limits else "",
        *facts,
    )


def _before(case: Case, decision: Decision) -> list[Decision]:
    decisions = case.of(Decision)
    return decisions[: next(n for n, each in enumerate(decisions) if each is decision)]


def _policies(case: Case) -> Iterable[Markup]:
    """The texts of the policies that determined a verdict."""
    for bundle in case.bundles.values():
        wanted = {
            name
            for decision in case.of(Decision)
            if decision.bundle == bundle.digest
            for step in decision.steps
            for name in step.policies
        }
        found = [(file, text) for file, whole in bundle.files for name, text in _texts(file, whole) if name in wanted]
        yield section(
            "The policies behind it",
            pairs(
                [
                    ("Bundle", code(bundle.digest)),
                    ("Its contents", mark(not bundle.problem, "are what the digest says", bundle.problem)),
                ]
            ),
            *(tag("div", tag("p", file, class_="soft"), tag("pre", text)) for file, text in found),
        )


def _texts(file: str, whole: str) -> list[tuple[str, str]]:
    """Each policy of a Cedar file with its id: from its annotation to the next one's."""
    starts = [match.start() for match in _ID.finditer(whole)] if file.endswith(".cedar") else []
    ends = [*starts[1:], len(whole)][: len(starts)]
    parts = [whole[start:end] for start, end in zip(starts, ends, strict=True)]
    return [(match[1], part.rpartition(";")[0].strip() + ";") for part in parts if (match := _ID.match(part))]


def _approvals(case: Case) -> Markup:
    said = [(item, item.record) for item in case.items if isinstance(item.record, Approval)]
    if not said:
        return section("What people said", tag("p", "No person was asked, or none has answered."))
    words = [
        pairs(
            [
                ("Who", f"{approval.statement.person}, as {approval.statement.role}"),
                ("Word", tag("span", approval.statement.word, class_=_WORDS.get(approval.statement.word, "must"))),
                ("Comment", approval.statement.comment),
                ("When", _time(item.time)),
                ("On the plan", code(approval.statement.plan_digest)),
                ("Changes", document(msgspec.json.encode(approval.statement.changes).decode()))
                if approval.statement.changes
                else ("", ""),
                ("Signature", _signature(case.signature(approval))),
            ]
        )
        for item, approval in said
    ]
    return section("What people said", *words)


def _signature(found: Signature | None) -> Markup:
    if found is None:
        return tag("span", "not signed: it permits nothing")
    signer = found.signer
    who = f", by {signer.name}" if signer else ""
    revoked = f" (that key was revoked {_time(signer.revoked_at)})" if signer and signer.revoked_at else ""
    key = tag("span", tag("br"), code(signer.public_key)) if signer else ""
    return tag("span", mark(found.holds, f"signature verified{who}", f"NOT verified: {found.problem}"), revoked, key)


def _effects(case: Case) -> Markup:
    rows: list[tuple[str, str, str]] = []
    for item in case.items:
        record = item.record
        if isinstance(record, Effect):
            word = "about to be sent"  # committed before the call: only a result says that it was
            if record.withdrawn or record.closed:
                word = "closed: nothing follows" if record.closed else "withdrawn: was not sent"
            said = f"{word}, epoch {record.epoch}, by {record.executor}"
            rows.append((f"{record.step}: {record.tool}", said, code(record.key)))
        elif isinstance(record, Result):
            how = f", found by {record.recovered}" if record.recovered else ""
            said = f"{record.status.replace('_', ' ')} in {record.duration_ms:.0f} ms{how}"
            rows.append((f"{record.step}: {record.tool}", said, record.error or document(record.output)))
    if not rows:
        return section("What was done", tag("p", "Nothing was sent to any system."))
    return section("What was done", table(("step", "what", "key or answer"), rows))


def _proof(case: Case) -> Markup:
    proved = case.proved
    included = proved.included or {}
    rows = [
        (
            item.seq,
            code(item.subject),
            _time(item.time),
            code(case.digests[item.seq]),
            mark(included[item.seq], "in the log", "NOT in the log") if item.seq in included else "not covered yet",
        )
        for item in case.items
    ]
    head = proved.checkpoint
    about = [
        ("Checkpoint", f"{head.size} sequences of {head.origin}" if head else "none was signed yet"),
        ("Root", code(head.root.hex()) if head else ""),
        ("Signed", proved.signed_at),
        ("Signature", mark(not proved.problem, "verified", f"NOT verified: {proved.problem}") if head else ""),
        ("Key", code(proved.key)),
    ]
    return section(
        "Proof that these are the records",
        tag(
            "p",
            "Each record is a leaf of a Merkle tree (RFC 9162) whose root an auditor with a key of its own signs. "
            "A record that is changed, removed, inserted or moved afterwards no longer fits the signed root. "
            "To check it yourself, without this site: ",
            code(f"workmesh audit prove {case.items[0].record.header.task_id} --out proof.json"),
            " there, ",
            code("workmesh audit verify proof.json --key KEY"),
            " anywhere.",
        ),
        pairs(about),
        tag("pre", clean(proved.note)) if proved.note else "",
        table(("sequence", "subject", "stored", "SHA-256 of the record", "audit"), rows),
    )


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} UTC"
