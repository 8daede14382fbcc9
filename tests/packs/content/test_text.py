"""What a text holds: claims and their sources, banned words, pictures, markup."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packs.content.cms.documents import Fact, Image
from packs.content.drafting import draft, localise
from packs.content.page import render, text_in
from packs.content.sample.catalogue import GOODS, brief, glossary
from packs.content.text import look, untranslated
from tests.packs.content.texts import page

BRIEF = brief("lamp", 1)  # 5 parts; a guarantee of 4 years


def test_a_draft_by_template_has_nothing_wrong_in_any_language() -> None:
    for number, slug in enumerate(GOODS, 1):
        given_brief = brief(slug, number)
        text = draft(given_brief)
        assert look(text, given_brief) == look("", given_brief)
        for locale, words in glossary().items():
            translated = localise(text, words)
            assert look(translated, given_brief) == look("", given_brief), (slug, locale)
            assert untranslated(translated, text) == ()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("It has 5 parts.", "unsourced"),
        ("It has \uff15 parts.", "unsourced"),
        ("It has \u0665 parts.", "unsourced"),
        ("[it has 5 parts](#f9)", "unsourced"),
        ("[it has 5 parts]()", "unsourced"),
        ("[it has 6 parts](#f1)", "misquoted"),
        ("[5 parts and 6 legs](#f1)", "misquoted"),
        ("So cheap!", "banned"),
        ("So CHEAP!", "banned"),
        ("So ch\u00adeap!", "banned"),
        ("So che\u200bap!", "banned"),
        ("So \uff43\uff48\uff45\uff41\uff50!", "banned"),
        ("So che**ap**!", "banned"),
        ("a world-class lamp", "banned"),
        ("![Lamp](/images/other)", "unlicensed"),
        ("![Lamp](https://elsewhere.example/x.png)", "unlicensed"),
        ("<script>alert(1)</script>", "markup"),
        ("\uff1cscript\uff1e", "markup"),
        ("<img src=x onerror=alert(1)>", "markup"),
        ("<!-- sources -->", "markup"),
        ("[x](javascript:alert`1`)", "markup"),
        ("[x](https://elsewhere.example)", "markup"),
        ("[x](//elsewhere.example)", "markup"),
        ("[x][1]\n\n[1]: https://elsewhere.example", "markup"),
        ("<https://elsewhere.example>", "markup"),
        ("&#60;script&#62;", "markup"),
        ("a\x00b", "markup"),
        ("a\rb", "markup"),
    ],
)
def test_what_must_not_be_public_is_found(text: str, wrong: str) -> None:
    assert getattr(look(text, BRIEF), wrong), (text, look(text, BRIEF))


@pytest.mark.parametrize(
    "text",
    [
        "[5 parts](#f1), and [a guarantee](#f2)",
        "a cheapskate would not",
        "![Lamp](/images/hero)",
        "a < b and b > c",
        "Frage & Antwort",
    ],
)
def test_what_is_in_order_is_left_alone(text: str) -> None:
    assert look(text, BRIEF) == look("", BRIEF)


def test_numbers_are_the_same_however_a_language_writes_them() -> None:
    facts = (Fact(id="f1", text="1,250.5 litres a year", source="s"),)
    known = brief("lamp", 1, facts=facts)
    for said in ("1.250,5 Liter", "1\u202f250,5 litres", "1250.5", "1'250.5"):
        assert look(f"[{said}](#f1)", known).misquoted == (), said
    assert look("[1,250 litres](#f1)", known).misquoted == ("1,250 litres",)


@pytest.mark.parametrize(
    ("licence", "attribution", "fine"),
    [
        ("CC0-1.0", "", True),
        ("LicenseRef-owned", "", True),
        ("CC-BY-4.0", "Ina Bild", True),
        ("CC-BY-4.0", " ", False),
        ("CC-BY-NC-4.0", "Ina Bild", False),
        ("", "Ina Bild", False),
        ("cc-by-4.0", "Ina Bild", False),
    ],
)
def test_a_picture_needs_a_known_licence_and_what_it_asks_for(licence: str, attribution: str, fine: bool) -> None:
    image = Image(id="hero", alt="A lamp", licence=licence, attribution=attribution)
    assert (look("![Lamp](/images/hero)", brief("lamp", 1, images=(image,))).unlicensed == ()) is fine


def test_what_was_not_translated_is_found() -> None:
    source = "# Lamp: built to last\n\nNobody has said this.\n"
    assert untranslated(localise(source, glossary()["de"]), source) == ("Nobody has said this.",)
    assert untranslated("Radio Paris\n", "Radio Paris\n", ["Radio Paris"]) == ()


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=200).map(lambda text: text + "\n"))
def test_the_text_in_a_file_is_taken_out_to_the_letter(text: str) -> None:
    assert text_in(render("lamp", page(text), BRIEF)) == text


@given(st.text(max_size=300))
def test_no_text_is_too_odd_to_be_looked_at(text: str) -> None:
    look(text, BRIEF)
    untranslated(text, text)
