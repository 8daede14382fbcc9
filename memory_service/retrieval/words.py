"""A text as the words that it is found by: folded, without accents, without endings; pure functions."""

import re
import unicodedata
from functools import lru_cache

import snowballstemmer

QUERY_WORDS_MAX = 64  # of one query; more only repeat what it is about
_WORD = re.compile(r"[^\W_]+")
_STEMS_KEPT = 1 << 16
_LONGEST = 64  # characters; what is longer is no word, and is cut

_english = snowballstemmer.stemmer("english")


def words_of(text: str) -> list[str]:
    """The words in their order. English endings are taken off; words of other languages mostly stay as they are."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(letter for letter in folded if not unicodedata.combining(letter)) if not text.isascii() else folded
    return [stem(word[:_LONGEST]) for word in _WORD.findall(plain)]


def query_words(query: str) -> list[str]:
    """The words of a query, each once."""
    return list(dict.fromkeys(words_of(query)))[:QUERY_WORDS_MAX]


@lru_cache(_STEMS_KEPT)
def stem(word: str) -> str:
    """A folded word without its ending."""
    found: str = _english.stemWord(word)
    return found
