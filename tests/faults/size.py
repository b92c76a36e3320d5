"""How hard the fault tests push: for as long as it takes with FAULTS=full (`make test-faults`), else for CI."""

import os

import pytest

IS_FULL = os.environ.get("FAULTS") == "full"

_BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]

# For what a test shows the database makes little difference: the short form runs it on SQLite alone.
sqlite_will_do = pytest.mark.parametrize("empty_database", _BOTH if IS_FULL else _BOTH[:1], indirect=True)
