"""What must never be shown, in settings or in logs: values of keys that look secret, and nkey seeds anywhere.

The rule: a value is hidden for the name of its key, whatever it is; a seed is hidden wherever it stands.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

HIDDEN: Final = "[redacted]"

_SECRET_KEY = re.compile(r"seed|password|passwd|secret|authorization|credential|private_?key|api_?key", re.IGNORECASE)
_TOKEN_KEY = re.compile(r"(^|[_-])tokens?$", re.IGNORECASE)  # an access_token, not a count such as tokens_in
_SEED = re.compile(r"(?<![A-Z2-7])S[ACNOUX][A-Z2-7]{56}(?![A-Z2-7])")  # nkeys: 58 characters of base32


def is_secret_key(key: str) -> bool:
    """Whether a value under this key is to be hidden."""
    return bool(_SECRET_KEY.search(key) or _TOKEN_KEY.search(key))


def redact(value: Any) -> Any:
    """The same value with secrets hidden: strings, bytes, mappings and sequences, at any depth."""
    if isinstance(value, str):
        return _SEED.sub(HIDDEN, value)
    if isinstance(value, Mapping):
        return {key: _entry(key, item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item) for item in value]
    if isinstance(value, bytes | bytearray):
        return redact(bytes(value).decode("utf-8", "replace"))
    return value


def _entry(key: Any, item: Any) -> Any:
    if isinstance(key, str) and is_secret_key(key) and item not in (None, "", b""):
        return HIDDEN
    return redact(item)
