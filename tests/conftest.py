"""Fixtures that every part of the project may ask for."""

from tests.fixtures.databases import database_settings, empty_database, postgres_server

__all__ = ["database_settings", "empty_database", "postgres_server"]
