import hashlib
import math
import subprocess
import sys
from pathlib import Path

import pytest

from memory_service.retrieval import minilm as module
from memory_service.retrieval.embedder import Embedder, EmbedderError, Vector, open_embedder


def cosine(one: Vector, other: Vector) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_texts_of_one_meaning_are_near_and_every_vector_has_length_1(minilm: Embedder) -> None:
    cat, kitten, stocks = minilm.embed(["a cat sits", "a kitten is sitting", "the stock market falls"])
    assert cosine(cat, kitten) > 0.7
    assert cosine(cat, stocks) < 0.2
    assert all(math.isclose(cosine(each, each), 1, abs_tol=1e-5) for each in (cat, kitten, stocks))
    assert len(cat) == minilm.size


def test_a_vector_does_not_depend_on_what_is_embedded_beside_it(minilm: Embedder) -> None:
    texts = ["short", "a somewhat longer text about nothing in particular", "x " * 2000, ""]
    together = minilm.embed(texts)
    for text, vector in zip(texts, together, strict=True):
        (alone,) = minilm.embed([text])
        assert cosine(alone, vector) > 0.99


def test_tokens_are_counted_uncut(minilm: Embedder) -> None:
    assert minilm.tokens("") == 0
    assert minilm.tokens("two words") == 2
    assert minilm.tokens("word " * 1000) == 1000


def test_a_file_that_is_not_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "tokenizer.json"
    changed.write_bytes(module.TOKENIZER.read_bytes() + b" ")
    monkeypatch.setattr(module, "TOKENIZER", changed)
    with pytest.raises(EmbedderError, match=hashlib.sha256(changed.read_bytes()).hexdigest()):
        open_embedder("minilm")
    changed.unlink()
    with pytest.raises(EmbedderError, match="cannot read"):
        open_embedder("minilm")


def test_without_a_model_no_library_of_one_is_loaded() -> None:
    code = (
        "import sys\n"
        "from memory_service.retrieval import opening, retriever\n"
        "from mesh.settings import MemorySettings\n"
        "from pathlib import Path\n"
        "assert opening.open_parts(MemorySettings(embedder='none'), Path('.')) == (None, None)\n"
        "heavy = {'onnxruntime', 'tokenizers', 'qdrant_edge', 'qdrant_client'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
