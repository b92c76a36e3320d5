"""What several tests of the trainer read."""

from pathlib import Path

import pytest

from tests.tiny import TEXT


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return _four_books(tmp_path / "books")


@pytest.fixture(scope="session")
def lasting_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same books, for runs that several tests go on from or compare with."""
    return _four_books(tmp_path_factory.mktemp("corpus") / "books")


def _four_books(folder: Path) -> Path:
    folder.mkdir()
    for number in range(4):
        (folder / f"book_{number}.txt").write_text(TEXT.replace("donkey", f"donkey{number}"))
    return folder
