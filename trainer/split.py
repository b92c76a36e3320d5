"""Training, validation and test text: named, by whole files, or contiguous."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from core.errors import CorpusError

from .corpus import Document, read_documents


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The texts of each part, in reading order. `test` may be empty."""

    train: list[str]
    valid: list[str]
    test: list[str]


def split_named(train: Path, valid: Path, test: Path | None) -> Split:
    """Take validation and test text from files or folders of their own."""
    named = {path.resolve() for path in (valid, test) if path is not None}
    documents = [
        document
        for document in read_documents(train)
        if named.isdisjoint({document.path.resolve(), *document.path.resolve().parents})
    ]
    if not documents:
        raise CorpusError(f"expected training text in {train} beside the validation and test files, found none")
    return Split(
        train=_texts(documents), valid=_texts(read_documents(valid)), test=_texts(read_documents(test)) if test else []
    )


def split_files(documents: list[Document], shares: tuple[float, float, float]) -> Split:
    """Split by whole files, in reading order, as near to the shares of characters as files allow; at least one each."""
    if len(documents) < 3:
        raise CorpusError(f"expected at least 3 files to split by whole files, got {len(documents)}")
    total = sum(len(document.text) for document in documents)
    parts: tuple[list[str], list[str], list[str]] = ([], [], [])
    seen = 0
    for number, document in enumerate(documents):
        middle = (seen + len(document.text) / 2) / total
        part = 0 if middle < shares[0] else 1 if middle < shares[0] + shares[1] else 2
        left = len(documents) - number
        part = max(part, 3 - left) if left <= 2 else part
        part = min(part, 0 if not parts[0] else 1 if not parts[1] else 2)
        parts[part].append(document.text)
        seen += len(document.text)
    return Split(train=parts[0], valid=parts[1], test=parts[2])


def split_contiguous(documents: list[Document], shares: tuple[float, float, float]) -> Split:
    """Cut the whole corpus, read in order, into three runs of text; cuts fall on line ends where there are any."""
    total = sum(len(document.text) for document in documents)
    cuts = (0, round(total * shares[0]), round(total * (shares[0] + shares[1])), total)
    parts: list[list[str]] = []
    for low, high in pairwise(cuts):
        part: list[str] = []
        offset = 0
        for document in documents:
            start, end = (_line_end(document.text, cut - offset) for cut in (low, high))
            if start < end:
                part.append(document.text[start:end])
            offset += len(document.text)
        parts.append(part)
    if not all(parts[:2]):
        raise CorpusError(f"expected enough text to cut into training and validation parts, got {total} characters")
    return Split(train=parts[0], valid=parts[1], test=parts[2])


def _line_end(text: str, position: int) -> int:
    """The end of the line at a position, if it is near; a text without line ends is cut where it stands."""
    if position <= 0:
        return 0
    if position >= len(text):
        return len(text)
    found = text.find("\n", position, position + 2000)
    return position if found < 0 else found + 1


def _texts(documents: list[Document]) -> list[str]:
    return [document.text for document in documents]
