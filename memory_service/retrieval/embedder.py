"""The model that turns texts into vectors, as retrieval sees it; ``none`` is a choice too and loads nothing."""

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

from mesh.errors import WorkmeshError

Vector = Sequence[float]


class EmbedderError(WorkmeshError):
    """The model cannot be used: its files are missing, or are not the ones that were pinned."""


class Embedder(Protocol):
    """Makes a vector of length 1 of each text. Safe to call from several threads."""

    @property
    def stamp(self) -> str:
        """The model's id and the hash of its files: vectors of different stamps are never compared."""
        ...

    @property
    def size(self) -> int:
        """How many numbers a vector has."""
        ...

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """A vector for each text. Blocks."""
        ...

    def tokens(self, text: str) -> int:
        """How many of the model's tokens the text has, not cut."""
        ...


def open_embedder(name: str, threads: int = 1) -> Embedder | None:
    """The embedder of the settings. Its libraries are loaded here and not before: they take 150 MB.

    Raises ``EmbedderError`` when its files are not those that were pinned.
    """
    if name == "none":
        return None
    opened: Embedder = import_module(f"memory_service.retrieval.{name}").open_model(threads)
    return opened
