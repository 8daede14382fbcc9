"""What the registry says no with."""


class RuleViolation(Exception):
    """A rule of the registry says no: ``code`` is for programs, ``detail`` for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class UnknownKey(Exception):
    """No change took effect under this key."""


class KeyReused(Exception):
    """The key took effect with another body."""


class DeadlinePassed(Exception):
    """The sender no longer wants this change; nothing was changed."""
