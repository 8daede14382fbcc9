"""The policy information point: what policy must know of a step, read fresh from the shop.

The rule: who asks, and for what, stands in the event that the storefront sent; a step that differs from it is denied.
What models read in a message is held against the message.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from mesh.canonical import effect_key
from mesh.errors import NotSentError, RetryableError
from mesh.grounding import Sources
from mesh.pack import Sheet
from mesh.records import Context, Party, Plan, Step
from packs.retail.arguments import ARGUMENTS, ChangeItemsArgs, ExchangeArgs, HandOverArgs, StepArgs, UndoArgs
from packs.retail.client import Shop
from packs.retail.events import EVENTS, MESSAGE, UNASSIGNED, MailUnassigned, MessageReceived, OrderId, Request
from packs.retail.facts import CANCEL_REASONS, Lookup, RetailFacts, facts_for
from packs.retail.tools import SHOP

CUSTOMER = "customer"
NOTIFY = "retail.notify"
UNDO = "retail.undo"
HAND_OVER = "retail.hand-over"

_REQUESTS = {kind.name: kind.data for kind in EVENTS}


async def read_facts(context: Context, plan: Plan, step: Step, systems: Mapping[str, Any]) -> Sheet:
    """The facts of a step; raises ``RetryableError`` while the shop cannot be asked.

    Of an event or a step that cannot be read, every fact is false: policy denies it.
    """
    if step.call.tool == HAND_OVER:
        return _of_hand_over(context, step)
    asked, args = _request(context, plan, step), _arguments(step)
    facts = RetailFacts()
    parties: tuple[Party, ...] = ()
    confirmed: tuple[str, ...] = ()
    if asked is not None and args is not None:
        shop: Shop = systems[SHOP]
        # The steps of a plan are about one request: asked alike, the shop is asked once for all of them.
        meant = args if isinstance(args, ExchangeArgs | ChangeItemsArgs) else asked
        variants: tuple[str, ...] = getattr(meant, "new_item_ids", ())
        try:
            lookup = await shop.lookup(args.order_id, asked.user_id, variants)
        except NotSentError as error:
            raise RetryableError(f"step {step.id}: the shop cannot be asked about {args.order_id}: {error}") from error
        facts = facts_of(context, plan, asked, step, args, lookup)
        parties = (Party(kind=CUSTOMER, id=asked.user_id),)
        confirmed = _confirmed(facts, lookup)
    return Sheet(
        facts=msgspec.Raw(msgspec.json.encode(facts)),
        amount=facts.amount,
        parties=parties,
        source="the shop, read now",
        confirmed=confirmed,
    )


def facts_of(context: Context, plan: Plan, asked: Request, step: Step, args: StepArgs, lookup: Lookup) -> RetailFacts:
    """The facts of a step, held against the request; ``lookup`` is that of the step's order and the asking customer.

    Another order, or a compensation that reaches beyond the step, does not match the owner; another tool, item,
    method, reason or address is not the one whose amount was asked for.
    """
    tool = step.call.tool
    facts = facts_for(tool, args, lookup, customer=asked.user_id)
    in_reach = args.order_id == asked.order_id and _undoes_itself(context, asked, step)
    as_asked = (tool == NOTIFY or f"{tool}.requested" == _kind(context, plan)) and _same(asked, args)
    return msgspec.structs.replace(
        facts,
        owner_matches=facts.owner_matches and in_reach,
        args_amount_matches=facts.args_amount_matches and as_asked,
    )


def _kind(context: Context, plan: Plan) -> str:
    """The type of request: the event's, or what a message was understood as."""
    if context.event.type == MESSAGE and plan.understood is not None:
        return plan.understood.event_type
    return context.event.type


def _request(context: Context, plan: Plan, step: Step) -> Request | None:
    """What is asked for, or ``None`` when it is none of this pack's requests.

    What models read in a message counts only as far as the message bears it out: it names the order, and the customer
    is the one who wrote it. Of a message that was not read so only the order that the step names counts.
    """
    if context.event.type == MESSAGE:
        return _in_message(context, plan, step)
    kind = _REQUESTS.get(context.event.type)
    try:
        request = msgspec.json.decode(context.data, type=kind) if kind else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return request if isinstance(request, Request) else None


def _in_message(context: Context, plan: Plan, step: Step) -> Request | None:
    understood = plan.understood
    kind = _REQUESTS.get(understood.event_type) if understood else None
    try:
        written = msgspec.json.decode(context.data, type=MessageReceived)
        if understood is None:
            order = msgspec.json.decode(step.call.args, type=_Order).order_id
            request: object = Request(order_id=order, user_id=written.user_id)
        else:
            request = msgspec.json.decode(understood.data, type=kind) if kind else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not isinstance(request, Request) or request.user_id != written.user_id:
        return None
    return request if Sources([written.message]).holds(request.order_id) else None


class _Order(msgspec.Struct, frozen=True, kw_only=True):
    order_id: OrderId


def _of_hand_over(context: Context, step: Step) -> Sheet:
    """A message that a person is to read: nothing moves, and it is the customer's own."""
    try:
        args = msgspec.json.decode(step.call.args, type=HandOverArgs)
        if context.event.type == UNASSIGNED:
            mail = msgspec.json.decode(context.data, type=MailUnassigned)
            said, party = ("", mail.address, mail.message), Party(kind="address", id=mail.address)
        else:
            written = msgspec.json.decode(context.data, type=MessageReceived)
            said, party = (written.user_id, "", written.message), Party(kind=CUSTOMER, id=written.user_id)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Sheet(facts=msgspec.Raw(msgspec.json.encode(RetailFacts())), source="the message")
    same = said == (args.user_id, args.sender, args.message)
    facts = RetailFacts(order_found=True, customer_found=True, owner_matches=same, args_amount_matches=True)
    parties = (party,)
    return Sheet(facts=msgspec.Raw(msgspec.json.encode(facts)), parties=parties, source="the message")


def _confirmed(facts: RetailFacts, lookup: Lookup) -> tuple[str, ...]:
    """The ids that the shop holds for this very customer, and the reasons that it knows."""
    if not facts.owner_matches or lookup.order is None or lookup.user is None:
        return ()
    ids = [lookup.order.order_id, *(item.item_id for item in lookup.order.items), *lookup.user.payment_methods]
    ids += [name for name, variant in lookup.variants.items() if variant is not None]
    return tuple(dict.fromkeys((*ids, lookup.user.email, *sorted(CANCEL_REASONS))))


def _arguments(step: Step) -> StepArgs | None:
    """The step's arguments, or ``None`` when they are not its tool's, or the tool is no step."""
    kind = ARGUMENTS.get(step.call.tool)
    try:
        args = msgspec.json.decode(step.call.args, type=kind) if kind else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return args if isinstance(args, StepArgs) else None


def _undoes_itself(context: Context, asked: Request, step: Step) -> bool:
    """Whether the compensation, if there is one, takes back this step's own change and nothing else."""
    undo = step.compensation
    if undo is None:
        return True
    try:
        args = msgspec.json.decode(undo.args, type=UndoArgs)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    own = effect_key(context.header.task_id, step.id)
    return (undo.tool, args.order_id, args.change_key) == (UNDO, asked.order_id, own)


def _same(asked: Request, args: StepArgs) -> bool:
    """Whether the arguments repeat every field that they have in common with the request."""
    common = set(asked.__struct_fields__).intersection(args.__struct_fields__)
    return all(getattr(asked, name) == getattr(args, name) for name in common)
