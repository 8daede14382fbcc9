"""What must come of each message of the corpus, in *.json beside; run as a module it writes them anew, to be reviewed.

They hold no copy of a message: a long text is its length, digest and beginning.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec

from agents.intake.mail.mail import MailLimits
from agents.intake.mail.message import read_mail

CORPUS = Path(__file__).parents[6] / "shared" / "data" / "emails"
GOLDEN = Path(__file__).parent
LONG = 200
LIMITS = MailLimits(trusted_authserv=("mx.google.com",))


def corpus() -> list[Path]:
    """The messages, in the order of their names; a missing folder is a failure, not an empty list."""
    found = sorted(CORPUS.glob("*.eml"))
    assert found, f"no messages in {CORPUS}"
    return found


def reading(data: bytes) -> dict[str, Any]:
    """A message as its golden file has it."""
    parsed = read_mail(data, LIMITS)
    mail = msgspec.json.decode(msgspec.json.encode(parsed.mail))
    for name in ("text", "quoted", "signature"):
        mail[name] = _short(mail[name])
    mail["bytes"] = {digest: len(content) for digest, content in sorted(parsed.parts.items())}
    return {key: value for key, value in mail.items() if value not in ("", [], None, False, {})}


def _short(text: str) -> str | dict[str, Any]:
    if len(text) <= LONG:
        return text
    return {"length": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest(), "begins": text[:LONG]}


def main() -> None:
    """Write all golden files."""
    for path in corpus():
        text = json.dumps(reading(path.read_bytes()), indent=2, ensure_ascii=False)
        (GOLDEN / f"{path.stem}.json").write_text(f"{text}\n", encoding="utf-8")
