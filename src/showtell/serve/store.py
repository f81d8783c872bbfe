"""What a server keeps: conversations with their photos, votes, which text went with which photo.

One set of tables for SQLite (a file) and PostgreSQL (an address): several replicas may share the
latter. Every row has an owner (who has the key), and nobody sees another's. A conversation and its
photos are written in one transaction, so that no kill leaves half of it; what is deleted is
overwritten.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from showtell.errors import ShowtellError, StorageError, import_extra

_tables = sql.MetaData()
_conversations = sql.Table(
    "conversations",
    _tables,
    sql.Column("owner", sql.String, primary_key=True),
    sql.Column("id", sql.String, primary_key=True),
    sql.Column("version", sql.Integer, nullable=False),
    sql.Column("created", sql.Float, nullable=False),
    sql.Column("updated", sql.Float, nullable=False, index=True),
    sql.Column("title", sql.String, nullable=False),
    sql.Column("record", sql.Text, nullable=False),
)
_photos = sql.Table(
    "photos",
    _tables,
    sql.Column("owner", sql.String, primary_key=True),
    sql.Column("id", sql.String, primary_key=True),
    sql.Column("conversation", sql.String, nullable=False, index=True),
    sql.Column("name", sql.String, nullable=False),
    sql.Column("link", sql.String, nullable=False, unique=True),
    sql.Column("data", sql.LargeBinary, nullable=False),
)
_prints = sql.Table(
    "fingerprints",
    _tables,
    sql.Column("owner", sql.String, primary_key=True),
    sql.Column("fingerprint", sql.String, primary_key=True),
    sql.Column("conversation", sql.String, nullable=False, index=True),
    sql.Column("record", sql.Text, nullable=False),
)
_votes = sql.Table(
    "votes",
    _tables,
    sql.Column("owner", sql.String, primary_key=True),
    sql.Column("photo", sql.String, primary_key=True),
    sql.Column("conversation", sql.String, nullable=False, index=True),
    sql.Column("vote", sql.Integer, nullable=False),
    sql.Column("at", sql.Float, nullable=False),
)
_settings = sql.Table(
    "settings",
    _tables,
    sql.Column("owner", sql.String, primary_key=True),
    sql.Column("record", sql.Text, nullable=False),
)
ELSEWHERE = "elsewhere_"  # begins the ids of talks that clients keep, whose photos are kept here
_OF_CONVERSATION = (_photos, _prints, _votes)


class Conflict(ShowtellError):
    """Another request has changed the conversation meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A conversation as it is kept. ``record``: what a session is made from again (``kept.py``);
    ``photos``: the ids under which its photos are kept, by their names in the session."""

    id: str
    title: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    photos: Mapping[str, str] = field(default_factory=dict)
    version: int = 0
    created: float = 0.0
    updated: float = 0.0


def new_id(kind: str) -> str:
    """An id that nobody guesses."""
    return f"{kind}_{secrets.token_urlsafe(16)}"


class Store:
    """``place``: a file for SQLite, or the address of a PostgreSQL database."""

    def __init__(self, place: str | Path) -> None:
        """Raises StorageError where nothing can be kept there."""
        address = str(place)
        self.is_file = "://" not in address
        if self.is_file:
            path = Path(place)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(
                    f"{path.parent} cannot be made ({error.strerror}); name another --data"
                ) from error
            self.engine = sql.create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
            sql.event.listen(self.engine, "connect", _as_we_keep)
        else:
            import_extra("psycopg", what="a PostgreSQL store", extra="postgres")
            driver = address.replace("postgres://", "postgresql://", 1)
            driver = driver.replace("postgresql://", "postgresql+psycopg://", 1)
            self.engine = sql.create_engine(driver, pool_pre_ping=True)
        with _told(address):
            _tables.create_all(self.engine)

    def close(self) -> None:
        self.engine.dispose()

    # -------------------------------------------------------------------------- conversations

    def save(
        self, owner: str, kept: Kept, *, new_photos: Mapping[str, bytes] | None = None
    ) -> Kept:
        """Write the conversation and what photos it has gained, by name; as it is kept now.

        Raises Conflict where it is not any more what ``kept`` was read from, StorageError.
        """
        now, new_photos = time.time(), new_photos or {}
        ids = {**kept.photos, **{name: new_id("photo") for name in new_photos}}
        record = json.dumps({"record": kept.record, "photos": ids}, ensure_ascii=False)
        row = {
            "version": kept.version + 1,
            "updated": now,
            "title": kept.title,
            "record": record,
        }
        of_it = (_conversations.c.owner == owner) & (_conversations.c.id == kept.id)
        with _told(kept.id), self.engine.begin() as db:
            if kept.version == 0:
                db.execute(
                    _conversations.insert().values(owner=owner, id=kept.id, created=now, **row)
                )
            else:
                same = of_it & (_conversations.c.version == kept.version)
                if db.execute(_conversations.update().where(same).values(row)).rowcount != 1:
                    raise _conflict(kept.id)
            for name, data in new_photos.items():
                row = _photo_row(owner, kept.id, name, data, id=ids[name])
                db.execute(_photos.insert().values(row))
        created = kept.created or now
        return replace(kept, photos=ids, version=kept.version + 1, created=created, updated=now)

    def talk_elsewhere(self, owner: str, first: str, record: Mapping[str, Any]) -> Kept:
        """Where the photos of a talk are kept that a client keeps itself, by its first words;
        ``record``: of a talk in which nothing was said."""
        id = ELSEWHERE + hashlib.sha256(first.encode()).hexdigest()[:32]
        kept = self.conversation(owner, id)
        if kept is None:
            try:
                title = "a talk that its client keeps"
                kept = self.save(owner, Kept(id=id, title=title, record=record))
            except StorageError:  # or another request was first
                kept = self.conversation(owner, id)
                if kept is None:
                    raise
        return kept

    def conversation(self, owner: str, id: str) -> Kept | None:
        of_it = (_conversations.c.owner == owner) & (_conversations.c.id == id)
        with _told(id), self.engine.connect() as db:
            row = db.execute(_conversations.select().where(of_it)).one_or_none()
        return None if row is None else _kept(row)

    def conversations(self, owner: str, *, elsewhere: bool = False, limit: int = 200) -> list[Kept]:
        """The latest first, each without its record (``conversation`` has that); those that clients
        keep themselves, whose photos are here, are listed ``elsewhere`` alone."""
        theirs = _conversations.c.id.startswith(ELSEWHERE, autoescape=True)
        names = ("id", "title", "version", "created", "updated")
        columns = sql.select(*(_conversations.c[name] for name in names))
        mine = columns.where((_conversations.c.owner == owner) & (theirs == elsewhere))
        latest = mine.order_by(_conversations.c.updated.desc()).limit(limit)
        with _told("the conversations"), self.engine.connect() as db:
            return [Kept(**row._mapping) for row in db.execute(latest)]

    def delete(self, owner: str, id: str) -> bool:
        """Remove the conversation and all that belongs to it; whether it was there."""
        of_it = (_conversations.c.owner == owner) & (_conversations.c.id == id)
        with _told(id), self.engine.begin() as db:
            # itself first: who adds to it meanwhile (``_add``) has then done so, or finds it gone
            found = db.execute(_conversations.delete().where(of_it)).rowcount == 1
            for table in _OF_CONVERSATION:
                db.execute(
                    table.delete().where((table.c.owner == owner) & (table.c.conversation == id))
                )
        if found and self.is_file:
            with _told(id), self.engine.connect() as db:  # nor does it stand in the log any more
                db.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return found

    # --------------------------------------------------------------------------------- photos

    def keep_photo(
        self, owner: str, *, conversation: str, name: str, data: bytes
    ) -> tuple[str, str]:
        """Keep a photo of a conversation; (its id, its link). Raises Conflict for one that was
        deleted meanwhile."""
        row = _photo_row(owner, conversation, name, data, id=new_id("photo"))
        with _told(name), self.engine.begin() as db:
            _add(db, _photos, row)
        return row["id"], row["link"]

    def photos(self, owner: str, conversation: str) -> list[str]:
        """The ids of its photos."""
        of_it = (_photos.c.owner == owner) & (_photos.c.conversation == conversation)
        with _told(conversation), self.engine.connect() as db:
            return list(db.execute(sql.select(_photos.c.id).where(of_it)).scalars())

    def photo(self, owner: str, id: str) -> bytes | None:
        return self._data((_photos.c.owner == owner) & (_photos.c.id == id))

    def conversation_of(self, owner: str, photo: str) -> str | None:
        """Which conversation a photo belongs to."""
        of_it = (_photos.c.owner == owner) & (_photos.c.id == photo)
        with _told(photo), self.engine.connect() as db:
            return db.execute(sql.select(_photos.c.conversation).where(of_it)).scalar_one_or_none()

    def linked(self, link: str) -> bytes | None:
        """The photo of a link that somebody was given."""
        return self._data(_photos.c.link == link)

    def link(self, owner: str, id: str) -> str | None:
        of_it = (_photos.c.owner == owner) & (_photos.c.id == id)
        with _told(id), self.engine.connect() as db:
            return db.execute(sql.select(_photos.c.link).where(of_it)).scalar_one_or_none()

    def _data(self, of_it: Any) -> bytes | None:
        with _told("a photo"), self.engine.connect() as db:
            found = db.execute(sql.select(_photos.c.data).where(of_it)).scalar_one_or_none()
        return None if found is None else bytes(found)

    # ------------------------------------------------------------- what clients do not send back

    def remember(
        self, owner: str, fingerprint: str, *, conversation: str, record: Mapping[str, Any]
    ) -> None:
        """That a text of ours, by its fingerprint, went with this; the last one counts. Raises
        Conflict for a conversation that was deleted meanwhile."""
        of_it = (_prints.c.owner == owner) & (_prints.c.fingerprint == fingerprint)
        told = json.dumps(record, ensure_ascii=False)
        with _told("a fingerprint"), self.engine.begin() as db:
            db.execute(_prints.delete().where(of_it))
            row = {"owner": owner, "fingerprint": fingerprint, "record": told}
            _add(db, _prints, {**row, "conversation": conversation})

    def recall_one(self, owner: str, fingerprint: str) -> tuple[str, dict[str, Any]] | None:
        """(its conversation, what was remembered); None for nothing of this owner's."""
        of_it = (_prints.c.owner == owner) & (_prints.c.fingerprint == fingerprint)
        columns = sql.select(_prints.c.conversation, _prints.c.record).where(of_it)
        with _told("a fingerprint"), self.engine.connect() as db:
            row = db.execute(columns).one_or_none()
        return None if row is None else (row[0], json.loads(row[1]))

    def recall(self, owner: str, fingerprints: Iterable[str]) -> dict[str, dict[str, Any]]:
        """What was remembered of these."""
        some = list(dict.fromkeys(fingerprints))
        of_them = (_prints.c.owner == owner) & _prints.c.fingerprint.in_(some)
        columns = sql.select(_prints.c.fingerprint, _prints.c.record)
        with _told("fingerprints"), self.engine.connect() as db:
            return {row[0]: json.loads(row[1]) for row in db.execute(columns.where(of_them))}

    # -------------------------------------------------------------------------- votes, settings

    def vote(self, owner: str, *, conversation: str, photo: str, vote: int) -> None:
        """+1 or -1 for a photo of the conversation, 0 takes it back. Raises Conflict for a
        conversation that was deleted meanwhile."""
        of_it = (_votes.c.owner == owner) & (_votes.c.photo == photo)
        with _told("a vote"), self.engine.begin() as db:
            db.execute(_votes.delete().where(of_it))
            if vote:
                row = {"owner": owner, "photo": photo, "conversation": conversation}
                _add(db, _votes, {**row, "vote": vote, "at": time.time()})

    def votes(self, owner: str) -> Sequence[tuple[str, str, int]]:
        """(conversation, photo, vote), the oldest first."""
        columns = sql.select(_votes.c.conversation, _votes.c.photo, _votes.c.vote)
        mine = columns.where(_votes.c.owner == owner).order_by(_votes.c.at)
        with _told("votes"), self.engine.connect() as db:
            return [(row[0], row[1], row[2]) for row in db.execute(mine)]

    def settings(self, owner: str) -> dict[str, Any]:
        of_it = _settings.c.owner == owner
        with _told("settings"), self.engine.connect() as db:
            found = db.execute(sql.select(_settings.c.record).where(of_it)).scalar_one_or_none()
        return {} if found is None else json.loads(found)

    def set(self, owner: str, settings: Mapping[str, Any]) -> None:
        with _told("settings"), self.engine.begin() as db:
            db.execute(_settings.delete().where(_settings.c.owner == owner))
            db.execute(_settings.insert().values(owner=owner, record=json.dumps(settings)))


def _add(db: sql.Connection, table: sql.Table, row: Mapping[str, Any]) -> None:
    """A row that belongs to a conversation, which stays there until the transaction has ended.
    Raises Conflict where it is not there: what is deleted gains nothing."""
    db.execute(table.insert().values(row))
    of_it = (_conversations.c.owner == row["owner"]) & (_conversations.c.id == row["conversation"])
    here = sql.select(_conversations.c.id).where(of_it).with_for_update(read=True)
    if db.execute(here).one_or_none() is None:
        raise _conflict(row["conversation"])


def _conflict(id: str) -> Conflict:
    return Conflict(
        f'the conversation "{id:.80}" was changed by another request, or deleted; read it again, '
        "and say it once more"
    )


def _photo_row(owner: str, conversation: str, name: str, data: bytes, *, id: str) -> dict[str, Any]:
    link = secrets.token_urlsafe(24)
    told = {"owner": owner, "id": id, "conversation": conversation}
    return {**told, "name": name, "link": link, "data": data}


def _kept(row: Any) -> Kept:
    told = json.loads(row.record)
    return Kept(
        id=row.id,
        title=row.title,
        record=told["record"],
        photos=told["photos"],
        version=row.version,
        created=row.created,
        updated=row.updated,
    )


def _as_we_keep(connection: Any, _: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


class _told:
    """Errors of the database as one line."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, sql.exc.SQLAlchemyError):
            why = " ".join(str(getattr(error, "orig", None) or error).split())
            raise StorageError(
                f"{self.what} could not be kept or read ({why:.200}); is the disk full, or the "
                "database away? what was there before is unharmed; try again"
            ) from error
