"""A text as the words that it is found by: folded, without accents, without endings; pure functions."""

import re
import unicodedata
from functools import lru_cache

import snowballstemmer

QUERY_WORDS_MAX = 64  # of one query; more only repeat what it is about
# Words that say nothing of what a question is about: of English only, as the endings are.
STOP_WORDS = frozenset(
    "a about after again all also am an and any are as at be been before being but by can could did do "
    "does doing down during each for from had has have having he her here him his how i if in into is it "
    "its may me might more most must my no nor not of off on only or other our out over own s same shall "
    "she should so some such t than that the their them then there these they this those to too under up "
    "us very was we were what when where which who whom whose why will with would you your".split()
)
_WORD = re.compile(r"[^\W_]+")
_STEMS_KEPT = 1 << 16
_LONGEST = 64  # characters; what is longer is no word, and is cut

_english = snowballstemmer.stemmer("english")


def words_of(text: str) -> list[str]:
    """The words in their order. English endings are taken off; words of other languages mostly stay as they are."""
    return [stem(word) for word in _folded(text)]


def query_words(query: str) -> list[str]:
    """The words of a query, each once, without stop words unless there is nothing else."""
    words = _folded(query)
    telling = [word for word in words if word not in STOP_WORDS] or words
    return list(dict.fromkeys(map(stem, telling)))[:QUERY_WORDS_MAX]


def _folded(text: str) -> list[str]:
    folded = text.casefold()
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", folded)
        folded = "".join(letter for letter in parts if not unicodedata.combining(letter))
    return [word[:_LONGEST] for word in _WORD.findall(folded)]


@lru_cache(_STEMS_KEPT)
def stem(word: str) -> str:
    """A folded word without its ending."""
    found: str = _english.stemWord(word)
    return found
