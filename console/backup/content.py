"""What a stream holds, as one digest: the same for a stream and for what was restored of it."""

import hashlib

from mesh.bus import Bus

_PAGE = 256
# How the server hands a message out, not what it is.
_OUR_WAY = (
    "Nats-Stream",
    "Nats-Subject",
    "Nats-Sequence",
    "Nats-Time-Stamp",
    "Nats-Num-Pending",
    "Nats-Last-Sequence",
    "Nats-UpTo-Sequence",
)


async def digest_of(bus: Bus, stream: str, first: int, last: int) -> tuple[str, int]:
    """SHA-256 over these messages (sequence, time, subject, headers, data), and how many there are."""
    hashed, count, seq = hashlib.sha256(), 0, first
    while seq <= last and (page := await bus.read(stream, seq, min(_PAGE, last - seq + 1))):
        for message in page:
            if message.seq > last:
                break
            own = sorted((name, value) for name, value in message.headers.items() if name not in _OUR_WAY)
            head = "\n".join((str(message.seq), message.time, message.subject, *(f"{n}: {v}" for n, v in own)))
            hashed.update(b"%d\n%b\n%d\n" % (len(head), head.encode(), len(message.data)))
            hashed.update(message.data)
            count += 1
        seq = page[-1].seq + 1
    return hashed.hexdigest(), count
