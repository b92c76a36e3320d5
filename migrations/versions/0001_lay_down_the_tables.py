"""Lay down the tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("digest", name="uq_api_keys_digest"),
    )
    op.create_table(
        "facts",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_facts"),
    )
    op.create_table(
        "forgotten",
        sa.Column("user_key", sa.String(64), nullable=False),
        sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_key", name="pk_forgotten"),
    )
    op.create_table(
        "generations",
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("writer_id", sa.String(64), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("user_key", sa.String(64)),
        sa.Column("guild_key", sa.String(64)),
        sa.Column("checkpoint", sa.String(255)),
        sa.Column("prompt", sa.Text),
        sa.Column("completion", sa.Text),
        sa.Column("temperature", sa.Double, nullable=False),
        sa.Column("top_k", sa.Integer, nullable=False),
        sa.Column("top_p", sa.Double, nullable=False),
        sa.Column("min_p", sa.Double, nullable=False),
        sa.Column("repetition_penalty", sa.Double, nullable=False),
        sa.Column("cache_strength", sa.Double, nullable=False),
        sa.Column("stop", sa.JSON),
        sa.Column("max_tokens", sa.Integer, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("pace", sa.Double, nullable=False),
        sa.Column("prompt_tokens", sa.Integer, nullable=False),
        sa.Column("completion_tokens", sa.Integer, nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("message", sa.Text),
        sa.Column("time_to_first_token_s", sa.Double),
        sa.Column("duration_s", sa.Double),
        sa.PrimaryKeyConstraint("request_id", name="pk_generations"),
    )
    op.create_index(
        "ix_generations_running",
        "generations",
        ["writer_id"],
        sqlite_where=sa.text("reason = 'running'"),
        postgresql_where=sa.text("reason = 'running'"),
    )
    op.create_index("ix_generations_started_at", "generations", ["started_at"])
    op.create_index("ix_generations_user_key_started_at", "generations", ["user_key", "started_at"])
    op.create_table(
        "settings",
        sa.Column("scope", sa.String(32), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("scope", "owner", "name", name="pk_settings"),
    )
    op.create_table(
        "stories",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("user_key", sa.String(64)),
        sa.Column("guild_key", sa.String(64)),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("current_node_id", sa.String(64)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("details", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_stories"),
    )
    op.create_index("ix_stories_user_key_updated_at", "stories", ["user_key", "updated_at"])
    op.create_table(
        "writers",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started", sa.String(64), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_writers"),
    )
    op.create_table(
        "nodes",
        sa.Column("story_id", sa.String(64), nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("parent_id", sa.String(64)),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("sampling", sa.JSON),
        sa.Column("checkpoint", sa.String(255)),
        sa.Column("prompt_tokens", sa.Integer, nullable=False),
        sa.Column("completion_tokens", sa.Integer, nullable=False),
        sa.Column("reason", sa.String(32)),
        sa.Column("request_id", sa.String(64)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("details", sa.JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["story_id", "parent_id"],
            ["nodes.story_id", "nodes.id"],
            name="fk_nodes_story_id_parent_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["story_id"], ["stories.id"], name="fk_nodes_story_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("story_id", "id", name="pk_nodes"),
    )
    op.create_index("ix_nodes_story_id_parent_id", "nodes", ["story_id", "parent_id"])
    op.create_table(
        "shares",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("story_id", sa.String(64), nullable=False),
        sa.Column("node_id", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(
            ["story_id", "node_id"],
            ["nodes.story_id", "nodes.id"],
            name="fk_shares_story_id_node_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_shares"),
    )
    op.create_index("ix_shares_story_id_node_id", "shares", ["story_id", "node_id"])


def downgrade() -> None:
    for table in ("shares", "nodes", "writers", "stories", "settings", "generations", "forgotten", "facts", "api_keys"):
        op.drop_table(table)
