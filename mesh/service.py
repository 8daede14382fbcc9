"""Requests to services: JSON structs over NATS request and reply, answered by any copy of the service.

The rule: an answer is either the result or an error with its reason; a request never hangs longer than its limit.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from typing import Any, TypeVar, get_type_hints

import msgspec
import structlog
from nats.aio.msg import Msg

from mesh import faultpoints, subjects
from mesh.bus import Bus
from mesh.errors import BusUnavailableError, ConflictError, RetryableError, WorkmeshError

log = structlog.get_logger(__name__)

T = TypeVar("T")
Verb = Callable[[Any], Awaitable[Any]]
Offered = Mapping[str, tuple[type, Any]]
"""The verbs of a service, each with the types of its request and its answer."""

GROUP = "workmesh.services"
MAX_IN_FLIGHT = 64


class ServiceError(WorkmeshError):
    """The service answered that it will not; the message is its reason."""


class ServiceBusyError(ServiceError):
    """The service could not, and may be asked again: the bus was away, or somebody else was faster."""


class _Answer(msgspec.Struct, frozen=True):
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""
    again: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Answer).decode


async def ask(bus: Bus, service: str, verb: str, request: msgspec.Struct, answer: type[T], timeout_s: float = 3.0) -> T:
    """The answer to one request; raises ``ServiceError`` with the reason, or ``BusUnavailableError``."""
    message = await bus.request(subjects.service(service, verb), _encode(request), timeout_s=timeout_s)
    got = _decode(message.data)
    if got.error:
        raise ServiceBusyError(got.error) if got.again else ServiceError(got.error)
    return msgspec.json.decode(got.result, type=answer)


def described(verbs: Mapping[str, tuple[type, Verb]]) -> Offered:
    """What these verbs take and answer, as their functions declare it."""
    return {name: (request, get_type_hints(function)["return"]) for name, (request, function) in verbs.items()}


def offered() -> dict[str, Offered]:
    """What the services of all parts offer, by the entry points ``workmesh.services``; nothing is started."""
    return {point.name: point.load()() for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


@asynccontextmanager
async def serving(bus: Bus, service: str, verbs: Mapping[str, tuple[type, Verb]]) -> AsyncIterator[None]:
    """Answer these verbs while the block runs: each has the request's struct and a function to its result."""
    slots = asyncio.Semaphore(MAX_IN_FLIGHT)
    async with asyncio.TaskGroup() as group:

        async def on_request(message: Msg) -> None:
            await slots.acquire()
            group.create_task(answer(message), name=f"request-{message.subject}")

        async def answer(message: Msg) -> None:
            try:
                await _answer_one(bus, message, verbs)
            finally:
                slots.release()

        subscription = await bus.client.subscribe(subjects.service(service, "*"), queue=service, cb=on_request)
        try:
            await bus.settle()
        except BusUnavailableError as error:  # the client subscribes again once it is connected
            log.warning("service_not_yet_reachable", service=service, error=str(error))
        try:
            yield
            await faultpoints.reach(f"{service}.while_stopping")
        finally:
            if bus.is_connected:
                await subscription.unsubscribe()


async def _answer_one(bus: Bus, message: Msg, verbs: Mapping[str, tuple[type, Verb]]) -> None:
    _, service, name = message.subject.split(".")
    try:
        await faultpoints.reach(f"{service}.on_request")
        if name not in verbs:
            raise ServiceError(f"no verb {name!r}; there are {', '.join(sorted(verbs))}")
        model, function = verbs[name]
        result = await function(msgspec.json.decode(message.data, type=model))
        answer = _Answer(result=msgspec.Raw(_encode(result)))
    except msgspec.DecodeError as error:
        answer = _Answer(error=f"the request is not well formed: {error}")
    except WorkmeshError as error:
        answer = _Answer(error=str(error), again=isinstance(error, (RetryableError, ConflictError)))
    except Exception as error:
        log.exception("request_failed", subject=message.subject)
        answer = _Answer(error=f"internal error: {type(error).__name__}")
    if not message.reply:
        return
    try:
        await bus.publish(message.reply, _encode(answer))
    except BusUnavailableError as error:
        log.warning("answer_not_sent", subject=message.subject, error=str(error))
