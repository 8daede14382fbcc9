"""Measures how long it took until an input was done whose process died, or which failed before.

The rule: an input that waited on purpose, for its turn or a person, says nothing of recovery and is left out.
"""

from collections import OrderedDict

from mesh import metrics
from mesh.clock import unix
from mesh.runtime import Handler, NotYetError, Outputs, Work

_REMEMBERED = 65_536  # as many as a consumer may have without an acknowledgement


def recovery(handler: Handler) -> Handler:
    """A sample for each input that is done at another delivery than its first, its outputs on disk."""
    seconds = metrics.Bound(metrics.RECOVERY_SECONDS)
    put_off: OrderedDict[int, None] = OrderedDict()

    async def measured(work: Work) -> Outputs:
        try:
            outputs = await handler(work)
        except NotYetError:
            put_off[work.delivery.seq] = None
            if len(put_off) > _REMEMBERED:
                put_off.popitem(last=False)
            raise
        seq = work.delivery.seq
        if seq in put_off:
            del put_off[seq]
        elif work.attempt > 1:
            seconds.of(work.stage).observe(max(0.0, unix() - work.stored_at))
        return outputs

    return measured
