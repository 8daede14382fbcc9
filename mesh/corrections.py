"""A person's correction of a task, as the command line and the learner say it to each other."""

import msgspec


class CorrectRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``person`` says was wrong with a task, or is to be minded next time."""

    task_id: str
    text: str
    person: str


class CorrectAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The proposal to remember it as a fact: it is one when a person has approved it."""

    task_id: str
    proposal: str
