"""The tables of the database, for SQLite and PostgreSQL alike; they know nothing of requests, engines or borders.

generations   the prompt log: one row for every generation, whoever asked
writers       the processes that write the log, so that rows of a dead one can be marked
settings      one value per (scope, owner, name)
stories       a tree of nodes each, and the shares that show one node to others
api_keys      digests of keys, never the keys
facts         what the installation must remember of itself
forgotten     users who asked to be deleted, so that no late row of theirs comes back
"""

from datetime import UTC, datetime
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An instant in UTC: SQLite stores no time zone, so one is demanded on the way in and given on the way out."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"expected a datetime with a time zone, got {value!r}")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value and (value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC))


class Prose(sa.types.TypeDecorator[str]):
    """Any text a model can write. PostgreSQL refuses U+0000, so it is escaped (with U+001B) in both databases."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return value and value.replace("\x1b", "\x1b1").replace("\0", "\x1b0")

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return value and value.replace("\x1b0", "\0").replace("\x1b1", "\x1b")


class Base(DeclarativeBase):
    """Fixed constraint names, so that a migration can name what it changes."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {datetime: UtcDateTime, dict[str, Any]: sa.JSON, list[str]: sa.JSON}


Key = sa.String(64)  # an opaque user or guild key: hexadecimal HMAC-SHA-256
Id = sa.String(64)
Word = sa.String(32)


class Generation(Base):
    """One generation. `prompt`, `completion` and `stop` are null where text may not be kept."""

    __tablename__ = "generations"
    __table_args__ = (
        sa.Index(None, "started_at"),
        sa.Index(None, "user_key", "started_at"),
        sa.Index(
            "ix_generations_running",
            "writer_id",
            sqlite_where=sa.text("reason = 'running'"),
            postgresql_where=sa.text("reason = 'running'"),
        ),
    )

    request_id: Mapped[str] = mapped_column(Id, primary_key=True)  # ours, so that a row replayed is the same row
    writer_id: Mapped[str] = mapped_column(Id)
    started_at: Mapped[datetime]
    source: Mapped[str] = mapped_column(Word)  # web, discord, api or cli
    user_key: Mapped[str | None] = mapped_column(Key)
    guild_key: Mapped[str | None] = mapped_column(Key)
    checkpoint: Mapped[str | None] = mapped_column(sa.String(255))
    prompt: Mapped[str | None] = mapped_column(Prose)
    completion: Mapped[str | None] = mapped_column(Prose)
    temperature: Mapped[float]
    top_k: Mapped[int]
    top_p: Mapped[float]
    min_p: Mapped[float]
    repetition_penalty: Mapped[float]
    cache_strength: Mapped[float]
    stop: Mapped[list[str] | None] = mapped_column(sa.JSON(none_as_null=True))
    max_tokens: Mapped[int]
    seed: Mapped[int] = mapped_column(sa.BigInteger)
    pace: Mapped[float]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    reason: Mapped[str] = mapped_column(Word)  # running, interrupted, or the reason it finished
    message: Mapped[str | None] = mapped_column(sa.Text)
    time_to_first_token_s: Mapped[float | None]
    duration_s: Mapped[float | None]


class LogWriter(Base):
    """A process that writes the log; once it is gone, or silent too long, its running rows are interrupted."""

    __tablename__ = "writers"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    host: Mapped[str] = mapped_column(sa.String(255))
    pid: Mapped[int]
    started: Mapped[str] = mapped_column(Id)  # tells a process from a later one of the same number
    seen_at: Mapped[datetime]


class Setting(Base):
    """One value; `owner` is a user's or a guild's key, or empty for the installation."""

    __tablename__ = "settings"

    scope: Mapped[str] = mapped_column(Word, primary_key=True)  # user, guild or installation
    owner: Mapped[str] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(Id, primary_key=True)
    value: Mapped[Any] = mapped_column(sa.JSON)


class Story(Base):
    """A tree of nodes; `details` is for the border that made it, such as where its messages stand."""

    __tablename__ = "stories"
    __table_args__ = (sa.Index(None, "user_key", "updated_at"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    user_key: Mapped[str | None] = mapped_column(Key)
    guild_key: Mapped[str | None] = mapped_column(Key)
    source: Mapped[str] = mapped_column(Word)
    title: Mapped[str] = mapped_column(Prose)
    current_node_id: Mapped[str | None] = mapped_column(Id)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    details: Mapped[dict[str, Any]]


class Node(Base):
    """One step: `text` is what it adds to its parent's; what of that it replaces, the page says in `details`."""

    __tablename__ = "nodes"
    __table_args__ = (
        sa.ForeignKeyConstraint(["story_id", "parent_id"], ["nodes.story_id", "nodes.id"], ondelete="CASCADE"),
        sa.Index(None, "story_id", "parent_id"),
    )

    story_id: Mapped[str] = mapped_column(sa.ForeignKey("stories.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    parent_id: Mapped[str | None] = mapped_column(Id)
    kind: Mapped[str] = mapped_column(Word)  # prompt, edit or continuation; snapshot: the text behind a link
    text: Mapped[str] = mapped_column(Prose)
    sampling: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))  # seed included
    checkpoint: Mapped[str | None] = mapped_column(sa.String(255))
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    reason: Mapped[str | None] = mapped_column(Word)
    request_id: Mapped[str | None] = mapped_column(Id)  # always null; a later revision may drop it
    created_at: Mapped[datetime]
    details: Mapped[dict[str, Any]]


class Share(Base):
    """A link that shows one node of a story, read-only, until it expires or is withdrawn. The id is the secret."""

    __tablename__ = "shares"
    __table_args__ = (
        sa.ForeignKeyConstraint(["story_id", "node_id"], ["nodes.story_id", "nodes.id"], ondelete="CASCADE"),
        sa.Index(None, "story_id", "node_id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    story_id: Mapped[str] = mapped_column(Id)
    node_id: Mapped[str] = mapped_column(Id)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    withdrawn_at: Mapped[datetime | None]


class ApiKey(Base):
    """A key's digest and name; `id` is what an owner uses to speak of it."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(255))
    digest: Mapped[str] = mapped_column(sa.String(64), unique=True)
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class Fact(Base):
    """A small thing to remember, such as the hash of the commands last sent to Discord."""

    __tablename__ = "facts"

    name: Mapped[str] = mapped_column(Id, primary_key=True)
    value: Mapped[str] = mapped_column(sa.Text)


class Forgotten(Base):
    """A user deleted at an instant; rows of theirs that started before it are dropped when they arrive late."""

    __tablename__ = "forgotten"

    user_key: Mapped[str] = mapped_column(Key, primary_key=True)
    forgotten_at: Mapped[datetime]
