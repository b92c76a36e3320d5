"""Fixtures that every part of the project may ask for."""

from tests.fixtures.checkpoints import tiny, tiny_checkpoint
from tests.fixtures.databases import database_settings, empty_database, postgres_server

__all__ = ["database_settings", "empty_database", "postgres_server", "tiny", "tiny_checkpoint"]
