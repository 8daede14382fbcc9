"""Renews a delivery while its handler runs, so that slow work is not given to somebody else."""

import asyncio

from mesh.runtime import Handler, Middleware, Outputs, Work


def lease(ack_wait_s: float) -> Middleware:
    """Send an in-progress ack at a third of ``ack_wait_s``, for as long as the handler runs."""

    def layer(handler: Handler) -> Handler:
        async def leased(work: Work) -> Outputs:
            loop = asyncio.get_running_loop()
            renewals: set[asyncio.Task[None]] = set()
            timers: list[asyncio.TimerHandle] = []

            def renew() -> None:
                task = loop.create_task(work.delivery.in_progress(), name=f"renew-{work.seq}")
                renewals.add(task)
                task.add_done_callback(renewals.discard)
                timers[:] = [loop.call_later(ack_wait_s / 3, renew)]

            timers.append(loop.call_later(ack_wait_s / 3, renew))
            try:
                return await handler(work)
            finally:
                timers[0].cancel()

        return leased

    return layer
