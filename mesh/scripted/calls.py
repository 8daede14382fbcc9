"""What the server was asked and what of it is billed: the provider's invoice, for a test to hold a ledger against.

The rule: every request to a model is here once, in the order in which it was taken up; one of a batch when it is done.
"""

from typing import Literal

import msgspec


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request. ``tokens_in`` were billed whole, ``tokens_cached`` read from the prompt cache, ``tokens_written``
    written to it, ``tokens_written_1h`` of these for an hour; all are 0 where nothing is billed.

    ``answered`` tells whether the whole answer was handed to the connection: what is billed and not answered was paid
    for nothing. ``status`` is 0 where the connection was dropped. ``user`` begins the last user turn. ``took_s`` is how
    long a recorded answer took then.
    """

    model: str
    conversation: str
    status: int
    billed: bool
    answered: bool
    user: str
    request_id: str
    at: float
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    tokens_written: int = 0
    tokens_written_1h: int = 0
    service: Literal["standard", "batch"] = "standard"
    custom_id: str = ""
    batch: str = ""
    stop_reason: str = ""
    took_s: float = 0.0
