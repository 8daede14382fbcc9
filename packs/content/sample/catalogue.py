"""The sample's staff, its goods to write about, and the studio's glossary."""

from packs.content.cms.documents import Brief, Fact, Image, Person
from packs.content.drafting import HEADINGS

GOODS = {
    "lamp": ("Lamp", "Lampe", "Lampe"),
    "chair": ("Chair", "Stuhl", "Chaise"),
    "clock": ("Clock", "Uhr", "Horloge"),
    "kettle": ("Kettle", "Kessel", "Bouilloire"),
    "bench": ("Bench", "Bank", "Banc"),
    "shelf": ("Shelf", "Regal", "Rayonnage"),
    "stool": ("Stool", "Hocker", "Tabouret"),
    "mirror": ("Mirror", "Spiegel", "Miroir"),
    "basket": ("Basket", "Korb", "Panier"),
    "desk": ("Desk", "Schreibtisch", "Bureau"),
    "ladder": ("Ladder", "Leiter", "Tabouret haut"),
    "tray": ("Tray", "Tablett", "Plateau"),
    "bowl": ("Bowl", "Schale", "Bol"),
    "rack": ("Rack", "Garderobe", "Portant"),
    "crate": ("Crate", "Kiste", "Caisse"),
    "hook": ("Hook", "Haken", "Crochet"),
}

_SAME = {
    "What our workshop says about it.": ("Was unsere Werkstatt dazu sagt.", "Ce que notre atelier en dit."),
    "Ask for it in our shop.": ("Fragen Sie in unserem Laden danach.", "Demandez-le dans notre boutique."),
    "It comes with a warm word from the workshop.": (
        "Dazu gibt es ein herzliches Wort aus der Werkstatt.",
        "Il vient avec un mot chaleureux de l'atelier.",
    ),
    HEADINGS["en"]: (HEADINGS["de"], HEADINGS["fr"]),
}

STAFF = (
    ("ann", ("producer", "editor"), ("en",)),
    ("pia", ("producer",), ("en", "fr")),
    ("bob", ("editor",), ("en", "de")),
    ("cleo", ("editor",), ("en", "fr")),
    ("eve", ("editor",), ("en",)),
    ("dirk", ("translator",), ("de",)),
    ("dana", ("translator",), ("de",)),
    ("fay", ("translator",), ("fr",)),
    ("fred", ("translator",), ("fr",)),
)


def staff() -> list[Person]:
    """Nine people; all are known by the studio's own forms, some by its code host as well."""
    return [
        Person(
            name=name,
            roles=roles,
            languages=languages,
            channels=("/studio", "/webhooks/github") if name in ("bob", "ann") else ("/studio",),
            limit=8,
        )
        for name, roles, languages in STAFF
    ]


def brief(slug: str, number: int, **changed: object) -> Brief:
    """The brief of one of the goods; ``number`` makes its facts its own."""
    name = GOODS[slug][0]
    given: dict[str, object] = {
        "title": f"{name}: built to last",
        "summary": "What our workshop says about it.",
        "audience": "people who furnish their first home",
        "tone": "plain and warm",
        "facts": facts(number),
        "images": (Image(id="hero", alt=f"{name}, photographed", licence="CC-BY-4.0", attribution="Ina Bild"),),
        "banned": ("cheap", "world-class"),
        "locales": ("en", "de", "fr"),
        "embargo": "",
    }
    return Brief(**{**given, **changed})  # type: ignore[arg-type]


def facts(number: int) -> tuple[Fact, ...]:
    """Two facts with numbers."""
    return (
        Fact(id="f1", text=f"{number + 4} parts, made in one workshop", source="https://workshop.example/parts"),
        Fact(id="f2", text=f"a guarantee of {number % 7 + 3} years", source="https://workshop.example/guarantee"),
    )


def glossary() -> dict[str, dict[str, str]]:
    """The translations of all that the sample says."""
    words: dict[str, dict[str, str]] = {"de": {}, "fr": {}}
    for place, locale in enumerate(words):
        known = words[locale]
        known.update({source: texts[place] for source, texts in _SAME.items()})
        for names in GOODS.values():
            made, shown = (("gebaut, um zu halten", "fotografiert"), ("faite pour durer", "photographie"))[place]
            known[f"{names[0]}: built to last"] = f"{names[place + 1]}: {made}"
            known[f"{names[0]}, photographed"] = f"{names[place + 1]}, {shown}"
        for number in range(1, 60):
            parts, years = (
                (f"{number} Teile, gefertigt in einer Werkstatt", f"eine Garantie von {number} Jahren"),
                (f"{number} pièces, fabriquées dans un seul atelier", f"une garantie de {number} ans"),
            )[place]
            known[f"{number} parts, made in one workshop"] = parts
            known[f"a guarantee of {number} years"] = years
    return words
