"""Every error of Workmesh, split by what the runtime does with it: retry the delivery, or give it up with a reason."""


class WorkmeshError(Exception):
    """Base of all errors that the project raises on purpose."""


class RetryableError(WorkmeshError):
    """The same input may succeed later: the delivery is negatively acknowledged with a delay."""

    def __init__(self, message: str, *, delay_s: float | None = None) -> None:
        super().__init__(message)
        self.delay_s = delay_s


class TerminalError(WorkmeshError):
    """The same input can never succeed: the delivery is dead-lettered with this reason and terminated."""


class ForwardedError(TerminalError):
    """A message that nobody published where it stands: the server's answer to a read was sent there."""

    def __init__(self, subject: str, seq: int) -> None:
        super().__init__(f"{subject} at {seq} was not published there: an answer of the server was sent there, refused")


class SettingsError(WorkmeshError):
    """The settings are wrong; the message names the key and the way out."""


class NotDurableError(WorkmeshError):
    """The bus would lose acknowledged records; a process refuses to start on it (invariant 2)."""


class DivergedError(WorkmeshError):
    """A stream is not the one that another is a copy of: it was restored, or is of another site."""


class SignatureError(TerminalError):
    """A signature is missing, does not verify, or belongs to a key without the needed role."""


class ConflictError(WorkmeshError):
    """A create-if-absent or compare-and-set publish lost: the subject holds another record than expected.

    ``stands`` is false when it holds none: then nobody has done the work, and the race is not lost but to be run again.
    """

    def __init__(self, subject: str, message: str, *, stands: bool = True) -> None:
        super().__init__(f"{subject}: {message}")
        self.subject = subject
        self.stands = stands


class BusUnavailableError(RetryableError):
    """The bus did not confirm within the time limit; the write may or may not have happened."""


class TooManyResultsError(BusUnavailableError):
    """One question to the bus has more answers than it gives at once: ask for less."""


class StorageFullError(BusUnavailableError):
    """The bus answered that it has no room left; nothing is lost, writers wait until there is."""


class ToolError(WorkmeshError):
    """Base of what a tool raises to say how far a call got."""


class NotSentError(ToolError):
    """The call certainly did not reach the target: safe to make it again, whatever the tool declares."""


class UncertainError(ToolError):
    """The call may have taken effect at the target (time-out, lost connection, server error)."""


class ToolRefusedError(ToolError):
    """The target answered that it will not do this, for good; nothing took effect."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
