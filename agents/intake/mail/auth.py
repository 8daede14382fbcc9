"""Authentication-Results (RFC 8601): only what a trusted server wrote, and only for the one address in From."""

import re
from collections.abc import Iterable

from agents.intake.mail.headers import Header, tidy, uncommented
from agents.intake.mail.mail import Address, Auth
from agents.intake.mail.notes import Notes

_METHOD = re.compile(r"([a-z0-9-]{1,40}) ?(?:/ ?\d+ ?)?= ?([a-z]{1,20})")
_PROPERTY = re.compile(r"([a-z]{1,20})\.([a-z0-9_-]{1,40}) ?= ?(\"[^\"]*\"|\S+)")
_Results = list[tuple[str, str, dict[str, str]]]


def read_auth(header: Header, froms: tuple[Address, ...], trusted: Iterable[str], notes: Notes) -> Auth:
    """What the trusted server found; ``authenticated`` is DMARC passed, or SPF or DKIM passed for the domain of From.

    The topmost header of a trusted name counts, and others of that name down to the next Received: those are of one
    server at one time. Copies further down may be the sender's own.
    """
    names = {each.lower() for each in trusted}
    if not names:
        return Auth()
    results: _Results = []
    server = ""
    for name, raw in header.fields:
        if name == "received" and server:
            break
        if name != "authentication-results":
            continue
        found = _results(raw)
        if found and found[0] in names and server in ("", found[0]):
            server = found[0]
            results += found[1]
    domains = {each.address.rpartition("@")[2].lower().rstrip(".") for each in froms}
    domain = domains.pop() if len(froms) == 1 and len(header.raw("from")) == 1 else ""
    if not domain and results:
        notes.add("from", "not one address: not authenticated")
    return Auth(
        spf=_best(results, "spf"),
        dkim=_best(results, "dkim"),
        dmarc=_best(results, "dmarc"),
        authenticated=bool(domain) and _authenticated(results, domain),
    )


def _results(raw: bytes) -> tuple[str, _Results] | None:
    pieces = _pieces(tidy(uncommented(raw.decode("utf-8", "replace"))))
    server = pieces[0].strip().split(" ")[0].strip('"').lower()
    if not server or "=" in server:
        return None
    results: _Results = []
    for piece in pieces[1:101]:
        match = _METHOD.match(piece.strip().lower())
        if match:
            found = _PROPERTY.findall(piece.strip().lower())
            results.append((match[1], match[2], {f"{kind}.{key}": value.strip('"') for kind, key, value in found}))
    return server, results


def _pieces(text: str) -> list[str]:
    """Split at semicolons outside quotes."""
    pieces, quoted, start = [], False, 0
    for at, each in enumerate(text):
        if each == '"':
            quoted = not quoted
        elif each == ";" and not quoted:
            pieces.append(text[start:at])
            start = at + 1
    return [*pieces, text[start:]]


def _best(results: _Results, method: str) -> str:
    found = [result for name, result, _ in results if name == method]
    return "pass" if "pass" in found else (found[0] if found else "none")


def _authenticated(results: _Results, domain: str) -> bool:
    dmarc = [(result, more.get("header.from", domain)) for name, result, more in results if name == "dmarc"]
    if dmarc:
        if any(result == "pass" and aligned(domain, of) for result, of in dmarc):
            return all(result == "pass" for result, _ in dmarc)
        if any(result == "fail" for result, _ in dmarc):
            return False
    for name, result, more in results:
        of = {
            "dkim": more.get("header.d") or more.get("header.i", ""),
            "spf": more.get("smtp.mailfrom", ""),
        }.get(name, "")
        if result == "pass" and aligned(domain, of.rpartition("@")[2]):
            return True
    return False


def aligned(domain: str, of: str) -> bool:
    """Whether ``of`` speaks for ``domain``: it is the same or above it, never below it."""
    of = of.rstrip(".")
    return "." in of and (domain == of or domain.endswith(f".{of}"))
