"""Handing an arrival on until it is durable: while the bus is away, wait and try again."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from mesh.errors import RetryableError

log = structlog.get_logger(__name__)

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0


async def until_done(do: Callable[[], Awaitable[None]], what: str) -> None:
    """Await ``do`` until it does not raise ``RetryableError``, with growing waits between."""
    wait_s = _FIRST_WAIT_S
    while True:
        try:
            await do()
            return
        except RetryableError as error:
            log.warning("mail_waits", key=what, error=str(error), wait_s=error.delay_s or wait_s)
            await asyncio.sleep(error.delay_s or wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
