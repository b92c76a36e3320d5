"""The spool gives back every whole record, in order, and never more than it promised to hold."""

import fcntl
import os
from pathlib import Path

import pytest

from core.errors import StoreError
from core.store.spool import Spool

MIB = 2**20
ROWS = [{"request_id": str(n), "prompt": "dragon \0 🐉 \ud800" * n} for n in range(50)]


def rows_of(spool: Spool) -> list[dict[str, object]]:
    return [row for row, _ in spool.rows()]


def abandoned(folder: Path, rows: list[dict[str, object]]) -> Path:
    """Leave a spool as a killed process does: nothing is closed in order, the lock just ends."""
    spool = Spool.create(folder, "dead", MIB)
    spool.append(rows)
    os.close(spool._file)
    return spool.path


def test_rows_come_back_in_order_after_the_process_is_gone(tmp_path: Path) -> None:
    abandoned(tmp_path, ROWS)
    (spool,) = Spool.adopt(tmp_path, "*")
    assert rows_of(spool) == ROWS


def test_a_spool_in_use_is_not_adopted(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, "alive", MIB)
    spool.append(ROWS)
    assert list(Spool.adopt(tmp_path, "*")) == []
    spool.close()


def test_a_spool_that_its_owner_removes_just_now_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool.create(tmp_path, "leaving", MIB)

    def lock(file: int, operation: int) -> None:
        spool.close()

    monkeypatch.setattr(fcntl, "flock", lock)
    assert list(Spool.adopt(tmp_path, "*")) == []


def test_another_databases_spool_is_not_adopted(tmp_path: Path) -> None:
    abandoned(tmp_path, ROWS)
    assert list(Spool.adopt(tmp_path, "other-*")) == []


def test_the_room_is_taken_when_the_spool_is_made(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, "new", MIB)
    assert spool.path.stat().st_blocks * 512 >= MIB
    spool.close()


def test_what_does_not_fit_is_refused_and_what_stood_stays(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, "small", MIB)
    spool.append(ROWS)
    with pytest.raises(StoreError, match=r"is full: \d+ of 1048576 bytes used"):
        spool.append([{"prompt": "x" * MIB}])
    assert rows_of(spool) == ROWS
    spool.close()


def test_a_spool_can_be_filled_to_its_last_byte(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, "full", MIB)
    spool.append([{"p": "x" * (spool.room_bytes - 8 - len('{"p":""}'))}])
    assert spool.room_bytes == 0
    os.close(spool._file)
    (adopted,) = Spool.adopt(tmp_path, "*")
    assert len(rows_of(adopted)) == 1


def test_a_cleared_spool_is_empty_and_keeps_no_text(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, "cleared", MIB)
    spool.append([{"prompt": "a secret dragon"}])
    spool.clear()
    assert rows_of(spool) == []
    assert b"secret" not in spool.path.read_bytes()
    spool.append(ROWS)
    assert rows_of(spool) == ROWS
    spool.close()


def test_closing_removes_an_empty_spool_and_keeps_a_full_one(tmp_path: Path) -> None:
    empty, full = Spool.create(tmp_path, "empty", MIB), Spool.create(tmp_path, "full", MIB)
    full.append(ROWS)
    empty.close()
    full.close()
    assert [path.name for path in tmp_path.iterdir()] == ["full.spool"]


@pytest.mark.parametrize("lost_bytes", [1, 20])
def test_a_torn_last_record_is_set_aside_and_the_rest_is_kept(tmp_path: Path, lost_bytes: int, caplog) -> None:
    path = abandoned(tmp_path, ROWS)
    content = path.read_bytes().rstrip(b"\0")
    path.write_bytes(content[:-lost_bytes] + bytes(MIB - len(content) + lost_bytes))
    (spool,) = Spool.adopt(tmp_path, "*")
    assert rows_of(spool) == ROWS[:-1]
    assert path.with_suffix(".damaged").read_bytes().rstrip(b"\0") == content[:-lost_bytes]
    assert "spool damaged" in caplog.text


def test_a_flipped_bit_ends_the_sound_records(tmp_path: Path) -> None:
    path = abandoned(tmp_path, ROWS)
    content = bytearray(path.read_bytes())
    content[content.index(b'"request_id":"7"')] ^= 1
    path.write_bytes(content)
    (spool,) = Spool.adopt(tmp_path, "*")
    assert rows_of(spool) == ROWS[:7]
    assert path.with_suffix(".damaged").exists()


def test_a_file_that_is_no_spool_gives_no_rows_and_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "letter.spool").write_text("Dear reader")
    (spool,) = Spool.adopt(tmp_path, "*")
    assert rows_of(spool) == []
    assert (tmp_path / "letter.damaged").read_text() == "Dear reader"


def test_a_spool_that_cannot_be_opened_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "folder.spool").mkdir()
    with pytest.raises(StoreError, match=r"cannot read the spool .*folder\.spool: .*move it away"):
        list(Spool.adopt(tmp_path, "*"))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot make the spool"):
        Spool.create(tmp_path / "file", "x", MIB)
