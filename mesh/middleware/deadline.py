"""Ends a handler that hangs: after its time limit the delivery is retried, and given up in the end."""

import asyncio

from mesh.runtime import Handler, Middleware, Outputs, Work


class HandlerTimeoutError(Exception):
    """The handler did not end within its time limit."""


def deadline(seconds: float) -> Middleware:
    """Cancel the handler after ``seconds``."""

    def layer(handler: Handler) -> Handler:
        async def limited(work: Work) -> Outputs:
            try:
                async with asyncio.timeout(seconds) as scope:
                    return await handler(work)
            except TimeoutError as error:
                if not scope.expired():
                    raise
                raise HandlerTimeoutError(f"{work.stage} did not end within {seconds:g} s") from error

        return limited

    return layer
