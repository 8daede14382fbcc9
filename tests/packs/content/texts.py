"""Pages for tests."""

from packs.content.cms.documents import Page, text_digest


def page(text: str, *, locale: str = "en", revision: int = 1, of: int = 0, authors: tuple[str, ...] = ()) -> Page:
    """A page that holds this text."""
    return Page(locale=locale, revision=revision, text=text, digest=text_digest(text), authors=authors, of=of)
