"""How many texts fit into a number of a model's tokens."""

from collections.abc import Callable, Iterable

CHARACTERS_A_TOKEN = 4  # of English, for the tokenizers in use; other languages have fewer


def rough_tokens(text: str) -> int:
    """Tokens by length alone: at least 1, or 0 for an empty text."""
    return -(-len(text) // CHARACTERS_A_TOKEN)


def within_budget(texts: Iterable[str], budget: int, tokens: Callable[[str], int] = rough_tokens) -> int:
    """How many texts, from the first on, have at most ``budget`` tokens in all.

    ``tokens`` counts one text; without a tokenizer, characters divided by four. It stops at the first that does not
    fit: what is ranked lower must not slip in front.
    """
    count = 0
    for text in texts:
        budget -= tokens(text)
        if budget < 0:
            break
        count += 1
    return count
