"""What memory accepts: every bound on a request, as pure functions that say what is wrong and what to do."""

from memory_service.requests import FactsRequest, HistoryRequest
from mesh.errors import TerminalError
from mesh.facts import ForgetRequest, Provenance, RecallRequest, RememberRequest

NAME_BYTES = 256  # a scope or a key; subjects carry only a digest of them
TEXT_BYTES = 8 * 1024
VALUE_BYTES = 32 * 1024
SOURCE_BYTES = 1024
LIMIT_MAX = 50


def check_remember(request: RememberRequest) -> None:
    """Raises ``TerminalError`` for a fact that cannot be kept."""
    check_name(request.scope, request.key)
    if not request.text.strip():
        raise TerminalError("the text is empty: say what is to be remembered, or use forget")
    _check_size("text", request.text, TEXT_BYTES)
    if len(bytes(request.value)) > VALUE_BYTES:
        raise TerminalError(
            f"the value has {len(bytes(request.value))} bytes, more than {VALUE_BYTES}: keep a reference"
        )
    if request.as_of < 0:
        raise TerminalError(f"as_of is {request.as_of}: give the sequence that was counted up to, or 0")
    check_provenance(request.provenance)


def check_forget(request: ForgetRequest) -> None:
    """Raises ``TerminalError`` for a request that names no fact, or nobody who asks."""
    check_name(request.scope, request.key)
    check_provenance(request.provenance)


def check_recall(request: RecallRequest) -> None:
    """Raises ``TerminalError`` for a recall without a scope, or out of bounds."""
    check_scope(request.scope)
    _check_limit(request.limit, LIMIT_MAX)
    if request.key and request.query:
        raise TerminalError("give a key (exact) or a query (words), not both")
    _check_size("query", request.query, TEXT_BYTES)


def check_facts(request: FactsRequest) -> None:
    """Raises ``TerminalError`` for a list without a scope, or out of bounds."""
    check_scope(request.scope)
    _check_limit(request.limit, LIMIT_MAX)


def check_history(request: HistoryRequest) -> None:
    """Raises ``TerminalError`` for a history of no fact, or out of bounds."""
    check_name(request.scope, request.key)
    _check_limit(request.limit, LIMIT_MAX)


def check_name(scope: str, key: str) -> None:
    """Raises ``TerminalError`` unless scope and key name one fact."""
    check_scope(scope)
    if scope.endswith("/"):
        raise TerminalError(f"the scope {scope!r} ends in '/', which names all scopes under it: name one scope")
    if not key.strip():
        raise TerminalError(f"the key is empty: name the fact within scope {scope!r}")
    _check_plain("key", key)


def check_scope(scope: str) -> None:
    """Raises ``TerminalError`` unless this is a scope, or a prefix of scopes that ends in ``/``."""
    if not scope.strip():
        raise TerminalError("the scope is empty: name one such as 'playbook/retail.return', or a prefix 'playbook/'")
    _check_plain("scope", scope)


def check_provenance(provenance: Provenance) -> None:
    """Raises ``TerminalError`` unless the fact says where it came from."""
    if not provenance.source.strip():
        raise TerminalError("provenance.source is empty: every fact says where it came from")
    for name in ("source", "writer", "person"):
        _check_size(f"provenance.{name}", getattr(provenance, name), SOURCE_BYTES)


def _check_plain(name: str, text: str) -> None:
    _check_size(name, text, NAME_BYTES)
    if any(ord(character) < 32 for character in text):
        raise TerminalError(f"the {name} {text!r} holds control characters: use printable ones")


def _check_size(name: str, text: str, limit: int) -> None:
    size = len(text.encode())
    if size > limit:
        raise TerminalError(f"the {name} has {size} bytes, more than {limit}: shorten it")


def _check_limit(limit: int, most: int) -> None:
    if not 1 <= limit <= most:
        raise TerminalError(f"the limit is {limit}: choose 1 to {most}")
