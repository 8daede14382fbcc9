"""A process that writes, replaces and drops documents and follows up with vectors, until it is killed."""

import asyncio
import random
import sys
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from memory_service.retrieval.documents import Document
from memory_service.retrieval.edge import EdgeIndex
from memory_service.retrieval.embedder import Vector
from memory_service.retrieval.retriever import SCHEMA, Retriever
from mesh.checkpoint import open_database

SIZE = 32


class Hashed:
    """Vectors of texts by their hash: equal texts are near, and it takes no time."""

    stamp, size = "hashed@1", SIZE

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Of length 1."""
        found: list[Vector] = []
        for text in texts:
            parts = [byte - 127.5 for byte in blake2b(text.encode(), digest_size=SIZE).digest()]
            length = sum(part * part for part in parts) ** 0.5
            found.append([part / length for part in parts])
        return found

    def tokens(self, text: str) -> int:
        """By words."""
        return len(text.split())


async def main(folder: Path, seed: int) -> None:
    """Say ``writing`` once, then write for ever."""
    rng = random.Random(seed)
    database = open_database(folder / "documents.db", SCHEMA)
    retriever = Retriever(database, EdgeIndex(folder / "vectors"), Hashed())
    sys.stdout.write("writing\n")
    sys.stdout.flush()
    while True:
        database.execute("BEGIN")
        for _ in range(20):
            name = f"d{rng.randrange(400)}"
            if rng.random() < 0.3:
                retriever.drop(name)
            else:
                retriever.put(Document(name, "org", "", "", f"text {name} {rng.random()}"))
        database.execute("COMMIT")
        if rng.random() < 0.05:
            retriever.rebuild()
        await retriever.catch_up()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
