"""What several tests of the trainer read."""

from pathlib import Path

import pytest

from tests.tiny import TEXT


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "books").mkdir()
    for number in range(4):
        (tmp_path / "books" / f"book_{number}.txt").write_text(TEXT.replace("donkey", f"donkey{number}"))
    return tmp_path / "books"
