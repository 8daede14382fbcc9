"""Opens what the settings name: the embedder and the vector index of one copy of the service."""

import os
import uuid
from importlib import import_module
from pathlib import Path

from memory_service.retrieval.documents import Weights
from memory_service.retrieval.embedder import Embedder, open_embedder
from memory_service.retrieval.vectors import VectorIndex
from mesh.settings import MemorySettings

URL_VARIABLE = "QDRANT_URL"
KEY_VARIABLE = "QDRANT_API_KEY"


def weights_of(settings: MemorySettings) -> Weights:
    """The weights of the settings."""
    return Weights(settings.lexical_weight, settings.vector_weight)


def open_parts(settings: MemorySettings, folder: Path) -> tuple[VectorIndex | None, Embedder | None]:
    """The vector index and the embedder; neither, and none of their libraries, for ``embedder = "none"``.

    Files go below ``folder``. On a server the collections bear a name that is made once and kept there, so copies
    do not mix. Raises ``EmbedderError`` when the model's files are not those that were pinned.
    """
    embedder = open_embedder(settings.embedder, settings.embedder_threads)
    if embedder is None:
        return None, None
    if settings.index == "edge":
        edge: VectorIndex = import_module("memory_service.retrieval.edge").EdgeIndex(folder / "vectors")
        return edge, embedder
    server = import_module("memory_service.retrieval.server")
    client = import_module("qdrant_client").QdrantClient(
        url=settings.qdrant_url or os.environ.get(URL_VARIABLE, "http://127.0.0.1:6333"),
        api_key=os.environ.get(KEY_VARIABLE),
        timeout=round(settings.qdrant_timeout_s),
        check_compatibility=False,
    )
    index: VectorIndex = server.ServerIndex(client, _name(folder / "collection"))
    return index, embedder


def _name(path: Path) -> str:
    """The name that this copy's collections begin with, made at the first call."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(f"workmesh-{uuid.uuid4().hex}", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
