"""Turns text files as they come into a corpus: one paragraph a line, UTF-8, no duplicates, and says what it changed.

Every step can be left out. Nothing is dropped silently: each change is counted in the file's `Changes`, and the
originals are never touched. The rules aim at books; verse and headings keep their lines.
"""

import hashlib
import html
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from core.errors import CorpusError
from core.novelty import ngram_hashes, words_of

from .corpus import text_files

MIN_WRAPPED_CHARS = 40  # shorter lines are verse, tables or headings
MAX_WRAPPED_CHARS = 100  # hard wraps stand at 60 to 80 characters; longer lines are whole paragraphs already
_WINDOWS = "windows-1252"  # what most old files are in that are no UTF-8
_ZERO_SHARE = 0.01  # of a file's bytes: no text in another encoding has so many
DUPLICATE_SHARE = 0.7  # of a text's runs of eight words, if they stand in a longer one; a preface makes no other book

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,30});")
_PARAGRAPH_BREAK = re.compile(r"\n[ \t]*\n\s*")
_WRAP = re.compile(r"(?<=—)\n|\n(?=—\S)|(?<=\w-)\n(?!(?:and|or|to)\b)")  # where no space stood: "card-table"
_ITALICS = re.compile(r"(?<![^\W_])_([^_\n]{1,400}?)_(?![^\W_])", re.DOTALL)
_PLAIN = str.maketrans({"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "…": "...", "\u00a0": " ", "\u00ad": ""})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaning:
    """Which steps to take. All are on: each leaves text alone that does not need it.

    `encoding` is that of lines which are no UTF-8, by its name in Python. Raises CorpusError for an unknown one.
    """

    encoding: str = _WINDOWS
    entities: bool = True
    joined_lines: bool = True
    plain_punctuation: bool = True
    drop_duplicates: bool = True

    def __post_init__(self) -> None:
        try:
            is_usable = b"a\n".decode(self.encoding) == "a\n"
        except (LookupError, ValueError):
            is_usable = False
        if not is_usable:
            raise CorpusError(
                "--encoding must be one that Python knows and that contains ASCII, such as windows-1251 or iso-8859-2, "
                f"got {self.encoding!r}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What was done to one file."""

    encoding: str
    recoded_lines: int = 0
    dropped_controls: int = 0
    entities: int = 0
    joined_lines: int = 0
    plain_marks: int = 0

    def __str__(self) -> str:
        facts = {
            f"{self.recoded_lines} lines were no UTF-8": self.recoded_lines,
            f"{self.dropped_controls} control characters dropped": self.dropped_controls,
            f"{self.entities} HTML entities resolved": self.entities,
            f"{self.joined_lines} hard-wrapped lines joined": self.joined_lines,
            f"{self.plain_marks} marks made plain": self.plain_marks,
        }
        return ", ".join([self.encoding, *(fact for fact, count in facts.items() if count)])


@dataclass(slots=True, kw_only=True)
class Report:
    """What became of a folder: `kept` maps each file to its changes, `duplicates` each one left out to its twin."""

    kept: dict[Path, Changes] = field(default_factory=dict)
    duplicates: dict[Path, Path] = field(default_factory=dict)
    empty: list[Path] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Yield one line a file, fit to print."""
        yield from (f"{path}: {changes}" for path, changes in sorted(self.kept.items()))
        yield from (f"{path}: left out, its text stands in {twin}" for path, twin in sorted(self.duplicates.items()))
        yield from (f"{path}: left out, no words in it" for path in sorted(self.empty))


def clean_folder(source: Path, target: Path, cleaning: Cleaning) -> Report:
    """Write every `.txt` below `source`, cleaned, to the same place below `target`. Raises CorpusError."""
    if target.resolve().is_relative_to(source.resolve()) or target.resolve() == source.resolve().parent:
        raise CorpusError(f"{target}: expected a folder outside {source}, so that the originals stay as they are")
    paths = sorted(text_files(source), key=_longest_first) if source.is_dir() else [source]
    if not paths or not source.exists():
        raise CorpusError(f"{source}: expected a .txt file or a folder of them, found none")
    report, seen = Report(), _Seen()
    for path in paths:
        text, changes = clean(path.read_bytes(), cleaning)
        name = path.relative_to(source) if source.is_dir() else Path(path.name)
        path = target / name
        if not text.strip():
            report.empty.append(name)
        elif cleaning.drop_duplicates and (twin := seen.twin_of(text, name)):
            report.duplicates[name] = twin
        else:
            report.kept[name] = changes
        if name in report.kept:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(path.name + ".new")
            aside.write_text(text, encoding="utf-8")
            aside.replace(path)  # where that is a link, what it points to stays as it was
        else:
            path.unlink(missing_ok=True)  # of an earlier run
    return report


def clean(content: bytes, cleaning: Cleaning) -> tuple[str, Changes]:
    """Return the text in `content` as the corpus wants it, and what was changed."""
    text, changes = decode(content, cleaning.encoding)
    if cleaning.entities:
        entities = sum(html.unescape(entity) != entity for entity in _ENTITY.findall(text))
        text = _ENTITY.sub(lambda match: html.unescape(match.group()), text)
        changes = replace(changes, entities=entities)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    controls = [char for char in set(text) if ord(char) < 32 and char not in "\n\t"]
    changes = replace(changes, dropped_controls=sum(map(text.count, controls)))
    text = text.translate({ord(char): None for char in controls})
    if cleaning.plain_punctuation:
        text, count = plain_punctuation(text)
        changes = replace(changes, plain_marks=count)
    if cleaning.joined_lines:
        text, count = join_lines(text)
        changes = replace(changes, joined_lines=count)
    return text, changes


def decode(content: bytes, otherwise: str = _WINDOWS) -> tuple[str, Changes]:
    """Read UTF-8, UTF-16 by its mark or zero bytes, the encoding `otherwise`, or one mixed with UTF-8 line by line."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace"), Changes(encoding="UTF-16")
    big, little = (content[at::2].count(0) for at in (0, 1))  # the upper halves of spaces and line ends
    if big + little > _ZERO_SHARE * len(content):
        encoding = "utf-16-le" if little > big else "utf-16-be"
        return content.decode(encoding, errors="replace"), Changes(encoding="UTF-16")
    try:
        return content.decode("utf-8-sig"), Changes(encoding="UTF-8")
    except UnicodeDecodeError:
        pass
    lines, recoded, unicode_lines = [], 0, 0
    for line in content.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True):
        try:
            lines.append(line.decode("utf-8"))
            unicode_lines += not line.isascii()
        except UnicodeDecodeError:
            lines.append(_decode_line(line, otherwise))
            recoded += 1
    encoding = f"UTF-8 mixed with {otherwise}" if unicode_lines else otherwise
    return "".join(lines), Changes(encoding=encoding, recoded_lines=recoded)


def plain_punctuation(text: str) -> tuple[str, int]:
    """Use straight quotes, three dots, `—` without spaces and no `_italics_`; return how many marks changed."""
    marks = sum(text.count(chr(mark)) for mark in _PLAIN)
    text = text.translate(_PLAIN)
    text, dashes = re.subn(r"[ \t]*(?:(?<!-)--(?!-)|(?<=[^\s—]) — (?=[^\s—]))[ \t]*", "—", text)
    text, italics = _ITALICS.subn(r"\1", text)
    return text, marks + dashes + italics


def join_lines(text: str) -> tuple[str, int]:
    """Join the lines of hard-wrapped paragraphs; return how many line ends went away.

    A paragraph is prose when every line but its last nearly reaches the width at which the file wraps: there the next
    line's first word would not have fitted. Verse and headings break earlier, and stay as they are.
    """
    blocks = [[line.strip() for line in block.split("\n")] for block in _PARAGRAPH_BREAK.split(text.strip())]
    width = _wrap_width(blocks)
    joined = [_joined(block, width) if width else "\n".join(block) for block in blocks]
    removed = sum(map(len, blocks)) - sum(block.count("\n") + 1 for block in joined)
    return "\n\n".join(block for block in joined if block) + "\n", removed


def _longest_first(path: Path) -> tuple[int, Path]:
    """So that a part meets its whole: of a story and a collection that has it, the collection stays."""
    return -path.stat().st_size, path


def _wrap_width(blocks: list[list[str]]) -> int:
    """Return the width at which a hard-wrapped file breaks its lines; 0 where the lines are whole paragraphs."""
    lengths = [len(line) for block in blocks for line in block[:-1]]
    if len(lengths) < 2 or statistics.median(lengths) < MIN_WRAPPED_CHARS:
        return 0
    width = round(statistics.quantiles(lengths, n=20)[-1])
    return width if width <= MAX_WRAPPED_CHARS else 0


def _joined(block: list[str], width: int) -> str:
    """Join the lines of `block` where the next word would not have fitted; else leave them."""
    fits = [
        len(line) + 1 + len(following.split(maxsplit=1)[0]) <= width * 0.9
        for line, following in pairwise(block)
        if following
    ]
    return "\n".join(block) if any(fits) else _WRAP.sub("", "\n".join(block)).replace("\n", " ")


def _decode_line(line: bytes, encoding: str) -> str:
    try:
        return line.decode(encoding)
    except UnicodeDecodeError:  # five bytes mean nothing in Windows-1252; in Latin-1 they are control characters
        return line.decode("latin-1")


class _Seen:
    """The texts kept so far, known by their words and by a sample of their runs of eight words."""

    def __init__(self) -> None:
        self._digests: dict[bytes, Path] = {}
        self._samples: dict[Path, frozenset[int]] = {}

    def twin_of(self, text: str, name: Path) -> Path | None:
        """Return the earlier file with (nearly) the same text, or remember this one."""
        words = [word.casefold() for word in words_of(text)]
        digest = hashlib.sha256((" ".join(words) or text).encode()).digest()
        if digest in self._digests:
            return self._digests[digest]
        hashes = ngram_hashes(words, 8)
        sample = frozenset(hashes[hashes % 64 == 0].tolist())
        for twin, other in self._samples.items():
            if len(sample) >= 20 and len(sample & other) >= DUPLICATE_SHARE * len(sample):
                return twin
        self._digests[digest] = name
        self._samples[name] = sample
        return None
