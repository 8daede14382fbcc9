"""The CMS's SQLite store: every revision of every text, and the append-only log of changes.

The one rule: a change, its key and its answer are committed in one transaction or not at all; no revision is ever
overwritten. Use it from one thread.
"""

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from packs.content.cms.changes import (
    AddReview,
    AnyChange,
    Assign,
    Correct,
    KeepMerge,
    Publish,
    PutBrief,
    PutPage,
)
from packs.content.cms.documents import Article, Brief, Done, Entry, Merge, Page, Person, Release, Review, text_digest

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS staff (name TEXT PRIMARY KEY, document BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS glossary (locale TEXT, source TEXT, text TEXT, PRIMARY KEY (locale, source));
CREATE TABLE IF NOT EXISTS briefs (slug TEXT, revision INTEGER, document BLOB NOT NULL, requested_by TEXT NOT NULL,
    PRIMARY KEY (slug, revision));
CREATE TABLE IF NOT EXISTS pages (slug TEXT, locale TEXT, revision INTEGER, document BLOB NOT NULL,
    PRIMARY KEY (slug, locale, revision));
CREATE TABLE IF NOT EXISTS reviews (seq INTEGER PRIMARY KEY, slug TEXT, locale TEXT, revision INTEGER, document BLOB);
CREATE TABLE IF NOT EXISTS assigned (slug TEXT, locale TEXT, person TEXT, PRIMARY KEY (slug, locale));
CREATE TABLE IF NOT EXISTS releases (seq INTEGER PRIMARY KEY, slug TEXT NOT NULL, document BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS merges (id TEXT PRIMARY KEY, slug TEXT, open INTEGER NOT NULL, document BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, event BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL, kind TEXT NOT NULL, slug TEXT NOT NULL, at TEXT NOT NULL, answer BLOB NOT NULL);
CREATE TRIGGER IF NOT EXISTS changes_stay BEFORE UPDATE ON changes BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS changes_last BEFORE DELETE ON changes BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS pages_stay BEFORE UPDATE ON pages BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS pages_last BEFORE DELETE ON pages BEGIN SELECT RAISE(ABORT, 'append only'); END;
"""


class Refused(Exception):
    """The CMS will not do this; nothing was changed. ``code`` is for programs."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Stale(Exception):
    """The page has moved on: ``head`` is its revision now."""

    def __init__(self, head: int) -> None:
        super().__init__(f"the page is at revision {head}")
        self.head = head


class Store:
    """The open store; close it when done. ``before_commit`` is called within the transaction of a change."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(SCHEMA)
        self.before_commit: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def load(self, folder: Path) -> None:
        """Fill an empty store from staff.json and glossary.json."""
        staff = msgspec.json.decode((folder / "staff.json").read_bytes(), type=list[Person])
        words = msgspec.json.decode((folder / "glossary.json").read_bytes(), type=dict[str, dict[str, str]])
        rows = [(locale, source, text) for locale, texts in words.items() for source, text in texts.items()]
        with self._transaction():
            people = [(person.name, msgspec.json.encode(person)) for person in staff]
            self._db.executemany("INSERT OR IGNORE INTO staff VALUES (?, ?)", people)
            self._db.executemany("INSERT OR IGNORE INTO glossary VALUES (?, ?, ?)", rows)

    def apply(self, key: str, change: AnyChange, if_match: int | None, deadline: float | None) -> Done:
        """Carry a change out once under its key; raises ``Refused`` or ``Stale``, and then nothing has changed."""
        digest = hashlib.sha256(msgspec.json.encode(change)).hexdigest()
        with self._transaction():
            known = self._row("SELECT digest, answer FROM changes WHERE key = ?", key)
            if known is not None:
                if known[0] != digest and not isinstance(change, PutPage | KeepMerge):
                    raise Refused("key_reused", f"{key} took effect with another body")
                return msgspec.structs.replace(msgspec.json.decode(known[1], type=Done), replayed=True)
            (seq,) = self._row("SELECT coalesce(max(seq), 0) + 1 FROM changes") or (1,)
            done = self._do(change, if_match, Done(kind=_kind(change), slug=change.slug, seq=seq), key)
            row = (seq, key, digest, done.kind, change.slug, datetime.now(UTC).isoformat(), msgspec.json.encode(done))
            self._db.execute("INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            if deadline is not None and time.time() > deadline:
                raise Refused("deadline_passed", f"the sender of {key} no longer waits")
            self.before_commit()
        return done

    def done(self, key: str) -> Done | None:
        """What took effect under a key."""
        row = self._row("SELECT answer FROM changes WHERE key = ?", key)
        return msgspec.structs.replace(msgspec.json.decode(row[0], type=Done), replayed=True) if row else None

    def log(self, after: int, limit: int) -> list[Entry]:
        """A page of the log of changes."""
        sql = "SELECT seq, key, kind, slug, at FROM changes WHERE seq > ? ORDER BY seq LIMIT ?"
        return [Entry(seq=r[0], key=r[1], kind=r[2], slug=r[3], at=r[4]) for r in self._rows(sql, after, limit)]

    def outbox(self, after: int) -> list[tuple[int, bytes]]:
        """What the CMS has to tell, as CloudEvents, behind a sequence."""
        return self._rows("SELECT seq, event FROM outbox WHERE seq > ? ORDER BY seq LIMIT 100", after)

    def article(self, slug: str) -> Article:
        """All that holds of an article."""
        brief = self._row(
            "SELECT revision, document, requested_by FROM briefs WHERE slug = ? ORDER BY revision DESC LIMIT 1", slug
        )
        pages = self._all(Page, "SELECT document FROM pages WHERE slug = ? ORDER BY locale, revision", slug)
        heads = {page.locale: page for page in pages}
        known: dict[str, tuple[str, ...]] = {}
        for page in pages:
            known[page.locale] = (*known.get(page.locale, ()), page.digest, *page.merges)
        reviews = self._all(Review, "SELECT document FROM reviews WHERE slug = ? ORDER BY seq", slug)
        release = self._row("SELECT document FROM releases WHERE slug = ? ORDER BY seq DESC LIMIT 1", slug)
        return Article(
            slug=slug,
            brief=msgspec.json.decode(brief[1], type=Brief) if brief else None,
            brief_revision=brief[0] if brief else 0,
            requested_by=brief[2] if brief else "",
            pages=tuple(heads.values()),
            reviews=tuple(each for each in reviews if heads[each.locale].revision == each.revision),
            assigned=dict(self._rows("SELECT locale, person FROM assigned WHERE slug = ? ORDER BY locale", slug)),
            release=msgspec.json.decode(release[0], type=Release) if release else None,
            known=known,
            now=time.time(),
        )

    def articles(self) -> list[Article]:
        """All articles that there are."""
        return [self.article(slug) for (slug,) in self._rows("SELECT DISTINCT slug FROM briefs ORDER BY slug")]

    def page(self, slug: str, locale: str, revision: int) -> Page | None:
        """One revision of a text."""
        sql = "SELECT document FROM pages WHERE slug = ? AND locale = ? AND revision = ?"
        return next(iter(self._all(Page, sql, slug, locale, revision)), None)

    def merge(self, name: str) -> Merge | None:
        """A merge, open or not."""
        row = self._row("SELECT document, open FROM merges WHERE id = ?", name)
        if row is None:
            return None
        return msgspec.structs.replace(msgspec.json.decode(row[0], type=Merge), open=bool(row[1]))

    def staff(self) -> list[Person]:
        """The staff, with how many articles each has that are not public."""
        sql = """SELECT person, count(DISTINCT slug) FROM assigned
                 WHERE slug NOT IN (SELECT slug FROM releases) GROUP BY person"""
        loads = dict(self._rows(sql))
        people = self._all(Person, "SELECT document FROM staff ORDER BY name")
        return [msgspec.structs.replace(each, load=each.load + loads.get(each.name, 0)) for each in people]

    def glossary(self, locale: str) -> dict[str, str]:
        """The studio's translations into a language."""
        return dict(self._rows("SELECT source, text FROM glossary WHERE locale = ?", locale))

    def _do(self, change: AnyChange, if_match: int | None, done: Done, key: str) -> Done:
        article = self.article(change.slug)
        if article.brief is None and not isinstance(change, PutBrief):
            raise Refused("no_article", f"there is no article {change.slug}")
        match change:
            case PutBrief():
                if article.brief is not None:
                    raise Refused("exists", f"there is an article {change.slug} already")
                return self._put_brief(done, change.brief, change.requested_by, 1)
            case Correct(fact=fact):
                return self._correct(done, article, fact.id, change)
            case Assign(people=people):
                rows = [(change.slug, locale, person) for locale, person in people.items()]
                self._db.executemany("INSERT OR REPLACE INTO assigned VALUES (?, ?, ?)", rows)
                return done
            case PutPage():
                return self._put_page(done, change, article, if_match)
            case KeepMerge():
                return self._keep(done, change, key)
            case AddReview(review=review):
                head = article.page(review.locale)
                if head is None or head.revision != review.revision:
                    raise Stale(head.revision if head else 0)
                row = (done.seq, change.slug, review.locale, review.revision, msgspec.json.encode(review))
                self._db.execute("INSERT INTO reviews VALUES (?, ?, ?, ?, ?)", row)
                return done
            case Publish(release=release):
                return self._release(done, article, release)

    def _put_brief(self, done: Done, brief: Brief, requested_by: str, revision: int) -> Done:
        row = (done.slug, revision, msgspec.json.encode(brief), requested_by)
        self._db.execute("INSERT INTO briefs VALUES (?, ?, ?, ?)", row)
        return msgspec.structs.replace(done, revision=revision)

    def _correct(self, done: Done, article: Article, wrong: str, change: Correct) -> Done:
        brief = article.brief
        if brief is None or all(fact.id != wrong for fact in brief.facts):
            raise Refused("no_fact", f"the brief of {change.slug} has no fact {wrong}")
        facts = tuple(change.fact if fact.id == wrong else fact for fact in brief.facts)
        brief = msgspec.structs.replace(brief, facts=facts)
        return self._put_brief(done, brief, article.requested_by, article.brief_revision + 1)

    def _put_page(self, done: Done, change: PutPage, article: Article, if_match: int | None) -> Done:
        head = article.page(change.locale)
        at = head.revision if head else 0
        if if_match != at:
            raise Stale(at)
        authors = [change.author] if change.co_author is None else [change.author, change.co_author]
        kept = head.authors if head is not None else ()
        digest = text_digest(change.text)
        page = Page(
            locale=change.locale,
            revision=at + 1,
            text=change.text,
            digest=digest,
            authors=tuple(dict.fromkeys((*kept, *authors))),
            of=change.of,
            merges=(change.merges,) if change.merges else (),
        )
        row = (change.slug, change.locale, page.revision, msgspec.json.encode(page))
        self._db.execute("INSERT INTO pages VALUES (?, ?, ?, ?)", row)
        self._settle(change.settles)
        return msgspec.structs.replace(done, revision=page.revision)

    def _keep(self, done: Done, change: KeepMerge, key: str) -> Done:
        name = f"merge-{done.seq}"
        merge = Merge(
            id=name, slug=change.slug, locale=change.locale, base=change.base, text=change.text, author=change.author
        )
        self._db.execute("INSERT INTO merges VALUES (?, ?, 1, ?)", (name, change.slug, msgspec.json.encode(merge)))
        self._settle(change.settles)
        event = {
            "specversion": "1.0",
            "id": f"{name}-{key}",
            "source": "/cms",
            "type": "content.merge.requested",
            "subject": f"article/{change.slug}",
            "data": {"slug": change.slug, "merge": name},
        }
        self._db.execute("INSERT INTO outbox (event) VALUES (?)", (msgspec.json.encode(event),))
        return msgspec.structs.replace(done, merge=name)

    def _settle(self, merge: str) -> None:
        self._db.execute("UPDATE merges SET open = 0 WHERE id = ?", (merge,))

    def _release(self, done: Done, article: Article, release: Release) -> Done:
        if release.state == "live":
            embargo = article.brief.embargo if article.brief else ""
            if embargo and time.time() < datetime.fromisoformat(embargo).timestamp():
                raise Refused("embargo", f"{done.slug} is under embargo until {embargo}")
            for locale, revision in release.revisions.items():
                head = article.page(locale)
                if head is None or head.revision != revision:
                    raise Stale(head.revision if head else 0)
        elif article.release is None or article.release.state != "live":
            raise Refused("not_live", f"{done.slug} is not public")
        row = (done.seq, done.slug, msgspec.json.encode(release))
        self._db.execute("INSERT INTO releases VALUES (?, ?, ?)", row)
        return done

    def _all(self, kind: type[T], sql: str, *parameters: str | int) -> list[T]:
        return [msgspec.json.decode(row[0], type=kind) for row in self._rows(sql, *parameters)]

    def _rows(self, sql: str, *parameters: str | int) -> list[Any]:
        with closing(self._db.execute(sql, parameters)) as rows:
            return rows.fetchall()

    def _row(self, sql: str, *parameters: str | int) -> tuple[Any, ...] | None:
        return next(iter(self._rows(sql, *parameters)), None)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _kind(change: AnyChange) -> str:
    return str(change.__struct_config__.tag)
