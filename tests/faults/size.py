"""How hard the fault tests push: for as long as it takes with FAULTS=full (`make test-faults`), else for CI."""

import os

import pytest

IS_FULL = os.environ.get("FAULTS") == "full"

_BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]

# Where one database shows most of what a test is about, the short form runs it on that one alone.
sqlite_will_do = pytest.mark.parametrize("empty_database", _BOTH if IS_FULL else _BOTH[:1], indirect=True)
postgresql_will_do = pytest.mark.parametrize("empty_database", _BOTH if IS_FULL else _BOTH[1:], indirect=True)
