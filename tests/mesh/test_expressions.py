"""The functions that expressions may call beside CEL's own."""

import pytest

from mesh.expressions import Expression, ExpressionError, Variables


def value(text: str, **variables: object) -> object:
    return Expression(text, "here").value(Variables(variables))


@pytest.mark.parametrize(
    ("text", "cents"),
    [
        ("12", 1200),
        ("12.5", 1250),
        ("12,50", 1250),
        ("1.234,50", 123_450),
        ("1,234.50", 123_450),
        ("1'234.50", 123_450),
        ("1\u00a0234,00", 123_400),
        ("12.345.678", 1_234_567_800),
        ("-3,00", -300),
        (" 0,05 ", 5),
    ],
)
def test_amounts_of_many_countries_are_hundredths(text: str, cents: int) -> None:
    assert value("minor(t)", t=text) == cents


@pytest.mark.parametrize("text", ["1,234", "1.234", "", "x", "1e5", "12.345,6,7", "1,23,456.00", "\u0661\u0662x"])
def test_what_is_no_amount_or_could_be_two_is_an_error(text: str) -> None:
    with pytest.raises(ExpressionError, match="minor"):
        value("minor(t)", t=text)


def test_texts_are_cut_trimmed_and_lowered() -> None:
    assert value('lower(trim(first(t, 5)) + "B")', t="  Äb c") == "äbb"
    assert value("first(t, -1)", t="x") == ""


def test_a_pattern_gives_its_first_group_or_nothing() -> None:
    assert value("match(t, '^/publish ([a-z-]+)$')", t="/publish my-article") == "my-article"
    assert value("match(t, '[0-9]{4}-W[0-9]{2}')", t="week 2026-W07, and 2026-W08") == "2026-W07"
    assert value("match(t, 'x(y)?')", t="x") == ""
    assert value("match(t, 'z')", t="x") == ""
    with pytest.raises(ExpressionError):
        value("match(t, '(')", t="x")
