"""Training, validation and test text: named, by whole files, or contiguous."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from core.errors import CorpusError

from .corpus import Document, read_documents

_SEARCH_BYTES = 2000  # how far a cut may move to fall on a line end


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The documents of each part, in reading order. `test` may be empty."""

    train: list[Document]
    valid: list[Document]
    test: list[Document]


def split_named(train: Path, valid: Path, test: Path | None) -> Split:
    """Take validation and test text from files or folders of their own."""
    validating, testing = read_documents(valid), read_documents(test) if test else []
    named = [path for path in (valid, test) if path is not None]
    documents = leave_out(read_documents(train), [*named, *(document.path for document in validating + testing)])
    if not documents:
        raise CorpusError(f"expected training text in {train} beside the validation and test files, found none")
    # test text must not choose the checkpoint
    held_out = leave_out(validating, [*named[1:], *(document.path for document in testing)])
    if not held_out:
        raise CorpusError(f"expected validation text in {valid} beside the test files, found none")
    return Split(train=documents, valid=held_out, test=testing)


def leave_out(documents: list[Document], paths: Iterable[Path]) -> list[Document]:
    """Return the documents that are none of these files and in none of these folders."""
    named = {path.resolve() for path in paths}
    return [
        document
        for document in documents
        if named.isdisjoint({document.path.resolve(), *document.path.resolve().parents})
    ]


def split_files(documents: list[Document], shares: tuple[float, float, float]) -> Split:
    """Split by whole files, in reading order, as near to the shares of bytes as files allow; at least one each."""
    wanted = 3 if shares[2] else 2
    if len(documents) < wanted:
        raise CorpusError(f"expected at least {wanted} files to split by whole files, got {len(documents)}")
    total = sum(document.size for document in documents)
    parts: tuple[list[Document], list[Document], list[Document]] = ([], [], [])
    seen = 0
    for number, document in enumerate(documents):
        middle = (seen + document.size / 2) / total
        part = 0 if middle < shares[0] else 1 if middle < shares[0] + shares[1] else 2
        part = max(part, wanted - (len(documents) - number))  # those that are left must do for the parts that follow
        part = min(part, 0 if not parts[0] else 1 if not parts[1] else wanted - 1)
        parts[part].append(document)
        seen += document.size
    return Split(train=parts[0], valid=parts[1], test=parts[2])


def split_contiguous(documents: list[Document], shares: tuple[float, float, float]) -> Split:
    """Cut the whole corpus, read in order, into three runs of text; cuts fall on line ends where there are any near."""
    total = sum(document.size for document in documents)
    cuts = (0, round(total * shares[0]), round(total * (shares[0] + shares[1])), total)
    reach = min(_SEARCH_BYTES, total // 20)  # or the one line end of a short text would leave nothing to validate on
    parts: list[list[Document]] = []
    for low, high in pairwise(cuts):
        part: list[Document] = []
        offset = 0
        for document in documents:
            start, end = (_near_line_end(document, cut - offset, reach) for cut in (low, high))
            if start < end:
                part.append(replace(document, start=start, end=end))
            offset += document.size
        parts.append(part)
    if not all(parts[:2]):
        raise CorpusError(f"expected enough text to cut into training and validation parts, got {total} bytes")
    return Split(train=parts[0], valid=parts[1], test=parts[2])


def _near_line_end(document: Document, position: int, reach: int) -> int:
    """The first line end in the file at or after a position of the document, if it is near; else the next character."""
    if position <= 0:
        return document.start
    if position >= document.size:
        return document.end
    at = document.start + position
    with document.path.open("rb") as file:
        file.seek(at)
        following = file.read(min(max(reach, 4), document.end - at))
    found = following.find(b"\n", 0, reach)
    if found >= 0:
        return at + found + 1
    within_character = next((n for n, byte in enumerate(following) if byte & 0xC0 != 0x80), len(following))
    return at + within_character
