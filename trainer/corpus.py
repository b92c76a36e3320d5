"""Reads books from disk: one file or a folder of `.txt` files, in the order that a person would read them.

Text is strict UTF-8. What is wrong is said with the file and the byte offset, never repaired in silence.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from core.errors import CorpusError


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One file of a corpus."""

    path: Path
    text: str


def read_documents(path: str | Path) -> list[Document]:
    """All books under a path, `chapter_2` before `chapter_10`. Raises CorpusError if one is damaged or none there."""
    path = Path(path)
    if not path.exists():
        raise CorpusError(f"expected a text file or a folder of .txt files, found nothing: {path}")
    files = [path] if path.is_file() else sorted(path.rglob("*.txt"), key=lambda file: _natural(file.relative_to(path)))
    if not files:
        raise CorpusError(f"expected a folder with .txt files, found none in {path}")
    documents = [Document(path=file, text=_read(file)) for file in files if file.is_file()]
    documents = [document for document in documents if document.text.strip()]
    if not documents:
        raise CorpusError(f"expected text to learn from, but every file in {path} is empty")
    return documents


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{file}: expected UTF-8, got byte 0x{error.object[error.start]:02x} at offset {error.start}"
        ) from error
    except OSError as error:
        raise CorpusError(f"cannot read {file}: {error.strerror}") from error


def _natural(path: Path) -> list[list[tuple[int, str]]]:
    """A sort key that compares digits as numbers, part by part."""
    return [
        [(int(piece), "") if piece.isdigit() else (-1, piece.lower()) for piece in re.split(r"(\d+)", part)]
        for part in path.parts
    ]
