"""The shop's SQLite store: documents, and the append-only log of applied changes.

The one rule: a change, its key and its answer are committed in one transaction or not at all. Use it from one thread.
"""

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec

from packs.retail.shop.answers import Answer, DeadlinePassed, Export, KeyReused, LogEntry, Lookup, Terms, UnknownKey
from packs.retail.shop.documents import (
    ChangeItems,
    ChangeRequest,
    Exchange,
    Order,
    Product,
    User,
    Variant,
    kind_of,
    variants_of,
)
from packs.retail.shop.rules import RuleViolation, apply_request, balance_number, balance_of

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (order_id TEXT PRIMARY KEY, document BLOB NOT NULL, last_seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS users (user_id TEXT PRIMARY KEY, document BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS variants (item_id TEXT PRIMARY KEY, document BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, digest TEXT NOT NULL, kind TEXT NOT NULL,
    order_id TEXT NOT NULL, amount INTEGER NOT NULL, at TEXT NOT NULL,
    gift_cards BLOB NOT NULL, moves BLOB NOT NULL, order_before BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS changes_by_key ON changes (key, seq);
CREATE TRIGGER IF NOT EXISTS changes_stay BEFORE UPDATE ON changes BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS changes_last BEFORE DELETE ON changes BEGIN SELECT RAISE(ABORT, 'append only'); END;
"""


class _Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change about to be written: `moves` are cents by gift card, positive to the customer."""

    kind: str
    order: bytes
    order_id: str
    order_before: bytes
    user_id: str
    user: User
    moves: dict[str, int]
    amount: int


class Store:
    """The open store; close it when done."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(SCHEMA)
        self.before_commit: Callable[[], None] = lambda: None  # called within the transaction of a change

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def load(self, folder: Path) -> bool:
        """Fill an empty store from orders.json, users.json and products.json; say whether it was empty."""
        with self._transaction():
            if self._row("SELECT 1 FROM users LIMIT 1") or self._row("SELECT 1 FROM orders LIMIT 1"):
                return False
            orders = msgspec.json.decode((folder / "orders.json").read_bytes(), type=dict[str, Order])
            users = msgspec.json.decode((folder / "users.json").read_bytes(), type=dict[str, User])
            products = msgspec.json.decode((folder / "products.json").read_bytes(), type=dict[str, Product])
            encode = msgspec.json.encode
            self._db.executemany("INSERT INTO orders VALUES (?, ?, 0)", ((k, encode(v)) for k, v in orders.items()))
            self._db.executemany("INSERT INTO users VALUES (?, ?)", ((k, encode(v)) for k, v in users.items()))
            self._db.executemany(
                "INSERT INTO variants VALUES (?, ?)", ((k, encode(v)) for k, v in variants_of(products).items())
            )
        return True

    def apply(self, key: str, request: ChangeRequest, terms: Terms) -> Answer:
        """Carry a request out once under its key.

        Raises RuleViolation, KeyReused or DeadlinePassed, and then nothing has changed.
        """
        return self._once(
            key, _digest(msgspec.json.encode(request)), kind_of(request), terms, lambda: self._by(request)
        )

    def undo(self, key: str, undone: str, terms: Terms) -> Answer:
        """Restore order and gift cards to before the change with key `undone`, once under the undo's own key.

        Gift cards move back by what that change moved, so other changes of the same card stand.
        Raises UnknownKey, RuleViolation, KeyReused or DeadlinePassed, and then nothing has changed.
        """
        return self._once(key, _digest(b"undo " + undone.encode()), "undo", terms, lambda: self._back(undone))

    def answer(self, key: str) -> Answer:
        """Give the latest stored answer under a key, or raise UnknownKey."""
        sql = "SELECT key, seq, kind, order_id, amount, gift_cards FROM changes WHERE key = ? ORDER BY seq DESC LIMIT 1"
        row = self._row(sql, key)
        if row is None:
            raise UnknownKey(key)
        gift_cards = msgspec.json.decode(row[5], type=dict[str, int | float])
        return Answer(
            key=row[0], seq=row[1], kind=row[2], order_id=row[3], amount=row[4], gift_cards=gift_cards, replayed=True
        )

    def log(self, after: int, limit: int) -> list[LogEntry]:
        """Give up to `limit` applied changes with a sequence above `after`, in order."""
        sql = "SELECT seq, key, kind, order_id, amount, at FROM changes WHERE seq > ? ORDER BY seq LIMIT ?"
        with closing(self._db.execute(sql, (after, limit))) as rows:
            return [LogEntry(**dict(zip(LogEntry.__struct_fields__, row, strict=True))) for row in rows]

    def lookup(self, order_id: str | None, user_id: str | None, item_ids: list[str], siblings: bool = False) -> Lookup:
        """Give the documents of an order, a user and variants; with ``siblings`` all those of the order's products."""
        order, user = self._document("orders", "order_id", order_id), self._document("users", "user_id", user_id)
        if siblings and order is not None:
            products = {item.product_id for item in msgspec.json.decode(order, type=Order).items}
            item_ids = [*item_ids, *self._variants_of(products)]
        variants = {item_id: self._document("variants", "item_id", item_id) for item_id in item_ids}
        return Lookup(
            order=None if order is None else msgspec.Raw(order),
            user=None if user is None else msgspec.Raw(user),
            variants={k: None if found is None else msgspec.Raw(found) for k, found in variants.items()},
        )

    def customers(self, email: str) -> list[str]:
        """Give the ids of the users with this address, letter case aside."""
        query = "SELECT user_id FROM users WHERE lower(json_extract(document, '$.email')) = ? ORDER BY user_id LIMIT 10"
        return [str(user_id) for (user_id,) in self._db.execute(query, (email.lower(),))]

    def export(self) -> Export:
        """Give every order and user."""
        orders = self._db.execute("SELECT order_id, document FROM orders ORDER BY order_id").fetchall()
        users = self._db.execute("SELECT user_id, document FROM users ORDER BY user_id").fetchall()
        return Export(
            orders={key: msgspec.Raw(document) for key, document in orders},
            users={key: msgspec.Raw(document) for key, document in users},
        )

    def _once(self, key: str, digest: str, kind: str, terms: Terms, work: Callable[[], _Change]) -> Answer:
        with self._transaction():
            stored = self._row("SELECT digest FROM changes WHERE key = ? ORDER BY seq DESC LIMIT 1", key)
            if stored is not None and terms.honour_keys:
                if stored[0] != digest:
                    raise KeyReused(key)
                return self.answer(key)
            if kind in terms.refuse_kinds:
                raise RuleViolation("refused_by_fault", f"changes of kind {kind} are refused")
            answer = self._write(key, digest, work())
            if terms.deadline is not None and time.time() > terms.deadline:
                raise DeadlinePassed(key)
            self.before_commit()
        return answer

    def _by(self, request: ChangeRequest) -> _Change:
        before = self._document("orders", "order_id", request.order_id)
        order = None if before is None else msgspec.json.decode(before, type=Order)
        user = self._user(request.user_id)
        new_ids = request.new_item_ids if isinstance(request, Exchange | ChangeItems) else ()
        found = {item_id: self._document("variants", "item_id", item_id) for item_id in new_ids}
        variants = {k: msgspec.json.decode(v, type=Variant) for k, v in found.items() if v is not None}
        applied = apply_request(request, order, user, variants)
        if before is None or user is None:
            raise RuntimeError("the rules accepted a request without an order or a customer")
        return _Change(
            kind=kind_of(request),
            order=msgspec.json.encode(applied.order),
            order_id=request.order_id,
            order_before=before,
            user_id=request.user_id,
            user=user,
            moves={card: new - balance_of(user.payment_methods[card]) for card, new in applied.gift_cards.items()},
            amount=applied.amount,
        )

    def _back(self, undone: str) -> _Change:
        sql = "SELECT seq, order_id, amount, moves, order_before FROM changes WHERE key = ? ORDER BY seq DESC LIMIT 1"
        row = self._row(sql, undone)
        if row is None:
            raise UnknownKey(undone)
        seq, order_id, amount, moves, before = row
        current = self._row("SELECT document, last_seq FROM orders WHERE order_id = ?", order_id)
        if current is None or current[1] != seq:
            raise RuleViolation("changed_since", f"order {order_id} has changed since {undone}")
        user_id = msgspec.json.decode(current[0], type=Order).user_id
        user = self._user(user_id)
        if user is None:
            raise RuleViolation("user_not_found", f"the customer of order {order_id} is gone")
        back = {card: -move for card, move in msgspec.json.decode(moves, type=dict[str, int]).items()}
        for card, move in back.items():
            if balance_of(user.payment_methods[card]) + move < 0:
                raise RuleViolation("insufficient_gift_card", f"{card} no longer holds {-move} cents to take back")
        return _Change(
            kind="undo",
            order=before,
            order_id=order_id,
            order_before=current[0],
            user_id=user_id,
            user=user,
            moves=back,
            amount=amount,
        )

    def _write(self, key: str, digest: str, change: _Change) -> Answer:
        methods = dict(change.user.payment_methods)
        for card, move in change.moves.items():
            balance = balance_number(balance_of(methods[card]) + move)
            methods[card] = msgspec.structs.replace(methods[card], balance=balance)
        gift_cards = {card: methods[card].balance for card in change.moves}
        encode = msgspec.json.encode
        if change.moves:
            user = msgspec.structs.replace(change.user, payment_methods=methods)
            self._db.execute("UPDATE users SET document = ? WHERE user_id = ?", (encode(user), change.user_id))
        row = (
            *(key, digest, change.kind, change.order_id, change.amount, datetime.now(UTC).isoformat()),
            *(encode(gift_cards), encode(change.moves), change.order_before),
        )
        sql = """INSERT INTO changes (key, digest, kind, order_id, amount, at, gift_cards, moves, order_before)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING seq"""
        with closing(self._db.execute(sql, row)) as inserted:
            seq = int(inserted.fetchone()[0])
        sql = "UPDATE orders SET document = ?, last_seq = ? WHERE order_id = ?"
        self._db.execute(sql, (change.order, seq, change.order_id))
        return msgspec.structs.replace(self.answer(key), replayed=False)

    def _user(self, user_id: str) -> User | None:
        document = self._document("users", "user_id", user_id)
        return None if document is None else msgspec.json.decode(document, type=User)

    def _variants_of(self, products: Iterable[str]) -> list[str]:
        sql = "SELECT item_id FROM variants WHERE json_extract(document, '$.product_id') = ? ORDER BY item_id"
        return [row[0] for product in sorted(products) for row in self._db.execute(sql, (product,))]

    def _document(self, table: str, column: str, key: str | None) -> bytes | None:
        row = self._row(f"SELECT document FROM {table} WHERE {column} = ?", key)
        return None if row is None else bytes(row[0])

    def _row(self, sql: str, *parameters: str | None) -> tuple[Any, ...] | None:
        with closing(self._db.execute(sql, parameters)) as rows:
            found: tuple[Any, ...] | None = rows.fetchone()
        return found

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
