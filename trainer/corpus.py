"""Finds books on disk: one file or a folder of `.txt` files, in the order that a person would read them.

A book's text is read when it is asked for, in stretches, so a corpus need not fit in memory. Text is strict UTF-8; what
is wrong is said with the file and the byte offset, never repaired in silence. Windows' line ends are read as `\\n`.
"""

import codecs
import io
import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import CorpusError

log = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 20
_STRETCH = 1_000_000  # characters held at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Bytes [start, end) of a file that has been checked: a book, or a part of one."""

    path: Path
    start: int
    end: int

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self.end - self.start

    def read(self) -> str:
        """Return the whole text."""
        return "".join(self._blocks())

    def stretches(self, length: int = _STRETCH) -> Iterator[str]:
        """Yield the text in stretches of about `length` characters, cut where no piece and no word crosses."""
        return stretches(self._blocks(), length)

    def _blocks(self) -> Iterator[str]:
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(), translate=True)
        with self.path.open("rb") as file:
            file.seek(self.start)
            left = self.size
            while left and (block := file.read(min(left, _BLOCK_BYTES))):
                left -= len(block)
                yield decoder.decode(block)
        yield decoder.decode(b"", final=True)


def read_documents(path: str | Path) -> list[Document]:
    """All books under a path, `chapter_2` before `chapter_10`. Raises CorpusError if one is damaged or none there."""
    path = Path(path)
    if not path.exists():
        raise CorpusError(f"expected a text file or a folder of .txt files, found nothing: {path}")
    files = [path] if path.is_file() else sorted(text_files(path), key=lambda file: _natural(file.relative_to(path)))
    if not files:
        raise CorpusError(f"expected a folder with .txt files, found none in {path}")
    documents = [document for file in files if file.is_file() and (document := _checked(file))]
    if not documents:
        raise CorpusError(f"expected text to learn from, but every file in {path} is empty")
    return documents


def text_files(folder: Path) -> Iterator[Path]:
    """Yield every `.txt` file below a folder, `.TXT` too, once. Raises CorpusError where one cannot be reached.

    Hidden ones are none of the books: copies that an editor keeps, a wastebasket, a Mac's notes on its files.
    """
    entered: set[Path] = set()  # a linked folder may hold the one that it stands in
    found: set[Path] = set()  # and a linked file may stand beside the one that it leads to
    for parent, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        here = Path(parent)
        if here.resolve() in entered:
            folders.clear()
            continue
        entered.add(here.resolve())
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = here / name
            if path.suffix.lower() == ".txt" and not name.startswith("."):
                if not path.exists():
                    raise CorpusError(f"{path}: expected a text file, got a link to nothing")
                if path.resolve() not in found:
                    found.add(path.resolve())
                    yield path


def _refuse(error: OSError) -> None:
    raise CorpusError(f"cannot read {error.filename}: {error.strerror}") from error


def utf8(name: str) -> str:
    """Return what can be written of a path or a name: on disk it need not be UTF-8."""
    return name.encode(errors="replace").decode()


def stretches(blocks: Iterable[str], length: int = _STRETCH) -> Iterator[str]:
    """Cut a text that comes in blocks after a paragraph break, else a line end, else before a space.

    Only a text that has none of them for as long as a stretch is cut where it stands.
    """
    rest = ""
    for block in blocks:
        rest += block
        while len(rest) > 2 * length:
            at = _cut(rest, length)
            yield rest[:at]
            rest = rest[at:]
    if rest:
        yield rest


def _cut(text: str, length: int) -> int:
    """The best place to cut in [length, 2 * length); there is text after it."""
    at = text.find("\n\n", length, 2 * length - 2)
    if at < 0:
        at = text.find("\n", length, 2 * length - 1)
    if at >= 0:
        while at < len(text) and text[at] == "\n":
            at += 1
        return at
    at = text.find(" ", length, 2 * length)
    return at if at >= 0 else length


def _checked(file: Path) -> Document | None:
    """The document of a file that holds text, None where it is blank. Raises CorpusError where it is no UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    start = size = 0
    is_blank, has_returns = True, False
    try:
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                if not size and block.startswith(codecs.BOM_UTF8):
                    start = len(codecs.BOM_UTF8)
                pending = len(decoder.getstate()[0])
                try:
                    text = decoder.decode(block)
                except UnicodeDecodeError as error:
                    raise _not_utf8(file, error, size - pending + error.start) from None
                is_blank = is_blank and not text.replace("\ufeff", "").strip()
                has_returns = has_returns or "\r" in text
                size += len(block)
    except OSError as error:
        raise CorpusError(f"cannot read {file}: {error.strerror}") from error
    if half := decoder.getstate()[0]:
        raise CorpusError(f"{file}: expected UTF-8, but it ends within the character at offset {size - len(half)}")
    if has_returns:
        log.info("file=%s line ends of Windows are read as \\n", file)
    return None if is_blank else Document(path=file, start=start, end=size)


def _not_utf8(file: Path, error: UnicodeDecodeError, offset: int) -> CorpusError:
    return CorpusError(
        f"{file}: expected UTF-8, got byte 0x{error.object[error.start]:02x} at offset {offset}; "
        "`python -m trainer clean` makes UTF-8 of UTF-16, of Windows-1252, or of what its --encoding names"
    )


def _natural(path: Path) -> list[list[tuple[int, str]]]:
    """A sort key that compares digits as numbers, part by part."""
    return [
        [(int(piece), "") if piece.isdecimal() else (-1, piece.lower()) for piece in re.split(r"(\d+)", part)]
        for part in path.parts
    ]
