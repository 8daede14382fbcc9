"""How fast a model may be asked, by all processes together: a token bucket for requests and one for tokens of input.

The rule: whoever takes a turn knows when it comes; a server that asked to wait is left alone until then.
"""

from urllib.parse import quote

from msgspec.structs import replace

from mesh.record import Struct

_MINUTE_S = 60.0
# Nobody waits here longer than a minute for a turn: what is booked further ahead was booked by a clock that is wrong.
_BOOKED_MAX_S = 3 * _MINUTE_S
_BLOCKED_MAX_S = 3600.0


class Rate(Struct, frozen=True, kw_only=True):
    """What a model may be asked in a minute, which is also how much at once after a pause."""

    requests: int
    tokens: int


class Pace(Struct, frozen=True, kw_only=True):
    """Until when (Unix time) each bucket is booked, by the generic cell rate algorithm (ITU-T I.371).

    ``blocked_until`` is what the server asked for; ``trouble`` is why the model was last found wanting, for people.
    """

    requests_until: float = 0.0
    tokens_until: float = 0.0
    blocked_until: float = 0.0
    trouble: str = ""

    def take(self, rate: Rate, tokens: int, now_s: float) -> tuple["Pace", float]:
        """The pace after one more turn, and the seconds until that turn comes."""
        requests_until = _booked(self.requests_until, now_s) + _MINUTE_S / rate.requests
        # More than a minute's worth could never be had: such a question takes a whole minute.
        tokens_until = _booked(self.tokens_until, now_s) + _MINUTE_S * min(1.0, tokens / rate.tokens)
        blocked_until = min(self.blocked_until, now_s + _BLOCKED_MAX_S)
        wait_s = max(requests_until - _MINUTE_S, tokens_until - _MINUTE_S, blocked_until) - now_s
        return replace(self, requests_until=requests_until, tokens_until=tokens_until), max(0.0, wait_s)

    def blocked(self, until: float) -> "Pace":
        """The pace after the server asked to be left alone."""
        return replace(self, blocked_until=max(self.blocked_until, until))


def _booked(until: float, now_s: float) -> float:
    return max(until, now_s) if until < now_s + _BOOKED_MAX_S else now_s


def pace_key(model: str) -> str:
    """A model's name as one token of a subject."""
    return quote(model, safe="").replace(".", "%2E").replace("~", "%7E").replace("%", "=")
