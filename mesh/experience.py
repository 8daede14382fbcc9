"""What a task leaves for learning, beside how it ended: it stands in the task's own records.

The rule: it is gathered by who ends the task and has its records at hand, so that learning reads one record a task.
"""

import msgspec


class LearnedUse(msgspec.Struct, frozen=True, kw_only=True):
    """A learned change that a plan was made under, and the sequence of its act: ``target`` is a playbook's name.

    Without a ``parameter`` ``value`` is the playbook that was chosen in its place.
    """

    target: str
    value: str | int | float
    proposal: str
    parameter: str = ""
    seq: int = 0


class Experience(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tools, once for each further attempt (``retried``), each doubt and each failure; people's ``words`` on the plan,
    and how many of them were no's (``overrides``); what models cost; the proposals that the plan was made under.
    """

    event_type: str = ""
    entity_kind: str = ""
    retried: tuple[str, ...] = ()
    doubted: tuple[str, ...] = ()
    erred: tuple[str, ...] = ()
    words: int = 0
    overrides: int = 0
    cost_micro_usd: int = 0
    learned: tuple[str, ...] = ()
