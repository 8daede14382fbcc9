"""What policies see of a step as ``context.facts``."""

import msgspec


class OutbreakFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts read from the registry now; what does not bear on a step stays at the value that permits least.

    ``standing`` is what the number is beside those of its week (``packs.outbreak.tools.checked``); ``as_judged`` says
    that the step repeats what was computed from the registry's numbers just now; ``grounded`` that what was read in a
    bulletin stands in it; ``covered`` that an alert of the weeks before still stands.
    """

    as_asked: bool = False
    series_found: bool = False
    source_known: bool = False
    channel_ok: bool = False
    in_range: bool = False
    in_time: bool = False
    standing: str = ""
    contested: int = 0
    complete: bool = False
    as_judged: bool = False
    consensus: bool = False
    families: int = 0
    alert_state: str = ""
    covered: bool = False
    grounded: bool = False
