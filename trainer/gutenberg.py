"""Fetches public-domain books from Project Gutenberg, one at a time and politely, and makes a corpus of them.

Obeys robots.txt, waits between requests, resumes half downloads, checks lengths and sums. The header, licence, footer
and name of Project Gutenberg are taken out, as its terms ask of text that is passed on without them; books under
copyright are refused. `manifest.tsv` in the folder says what every file is and where it came from.
"""

import csv
import hashlib
import logging
import re
import time
import urllib.error
import urllib.request
import urllib.robotparser
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from core.errors import CorpusError

from .clean import Cleaning, clean

log = logging.getLogger(__name__)

MIRROR = "https://www.gutenberg.org"
AGENT = "fablewright (a language model trainer; fetches single books on a person's request)"
DELAY_S = 2.0
ATTEMPTS = 4
TIMEOUT_S = 60.0
LONGEST_WAIT_S = 120.0
_CHUNK_BYTES = 1 << 16
_LONGEST_ROBOTS = 1 << 19

_START = re.compile(r"^.*\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG.*?\*\*\*[^\n]*$", re.MULTILINE | re.IGNORECASE)
_OLD_START = re.compile(r"^.*\*END[ *]+THE SMALL PRINT![^\n]*$", re.MULTILINE)
_END = re.compile(
    r"^[ \t]*(?:\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG|End of (?:the |this )?Project Gutenberg)", re.M | re.I
)
_CREDITS = re.compile(r"\A\s*(?:(?:E-text )?(?:Produced|Prepared|Transcribed|Created) by|\[?Transcriber's note)", re.I)
_OF_COPYRIGHT = re.compile(r"This is a COPYRIGHTED Project Gutenberg", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """One row of the manifest. `words` are split at white space; the sums are SHA-256 of the file and the download."""

    file: str
    title: str
    author: str
    number: int
    words: int
    sha256: str
    source: str
    source_sha256: str


class Gutenberg:
    """Project Gutenberg, or a mirror of it laid out alike, as a careful visitor."""

    def __init__(self, mirror: str = MIRROR, *, delay_s: float = DELAY_S) -> None:
        self.mirror = mirror.rstrip("/")
        self._delay_s = delay_s
        self._next_request_s = 0.0
        self._robots: urllib.robotparser.RobotFileParser | None = None

    def fetch(self, numbers: Sequence[int], folder: Path) -> tuple[list[Book], dict[int, CorpusError]]:
        """Bring the books to `folder`; return those that are there now, and why the others are not."""
        folder.mkdir(parents=True, exist_ok=True)
        known = {book.number: book for book in read_manifest(folder)}
        failures: dict[int, CorpusError] = {}
        for number in dict.fromkeys(numbers):
            if number in known and _is_whole(folder, known[number]):
                log.info("book=%d file=%s already there", number, known[number].file)
                continue
            try:
                known[number] = self._fetch_one(number, folder)
            except CorpusError as error:
                failures[number] = error
                continue
            write_manifest(folder, list(known.values()))
        return [known[number] for number in dict.fromkeys(numbers) if number not in failures], failures

    def _fetch_one(self, number: int, folder: Path) -> Book:
        if number < 1:
            raise CorpusError(f"expected an e-book number of at least 1, got {number}")
        url = f"{self.mirror}/cache/epub/{number}/pg{number}.txt"
        self._ask_robots(url)
        part = folder / f".{number}.part"
        self._download(url, part)
        content = part.read_bytes()
        raw, _ = clean(content, Cleaning(joined_lines=False, plain_punctuation=False))
        title, author = _header(raw, "Title") or f"E-book {number}", _header(raw, "Author") or "unknown"
        try:
            book = strip_licence(raw, url)
        except CorpusError:
            part.unlink()  # or the next try would put the rest of the book behind a page of something else
            raise
        text, changes = clean(book.encode(), Cleaning())
        path = folder / f"{_slug(f'{author.split()[-1]} {title}')}-{number}.txt"
        aside = path.with_suffix(".aside")
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
        part.unlink()
        log.info("book=%d file=%s words=%d changes=%s", number, path.name, len(text.split()), changes)
        return Book(
            file=path.name,
            title=title,
            author=author,
            number=number,
            words=len(text.split()),
            sha256=_sha256(path.read_bytes()),
            source=url,
            source_sha256=_sha256(content),
        )

    def _ask_robots(self, url: str) -> None:
        if self._robots is None:
            self._robots = self._read_robots(f"{_site(self.mirror)}/robots.txt")
        if not self._robots.can_fetch(AGENT, url):
            raise CorpusError(f"{url}: the site's robots.txt does not allow this; choose a mirror with --mirror")

    def _read_robots(self, url: str) -> urllib.robotparser.RobotFileParser:
        rules = urllib.robotparser.RobotFileParser()
        request = urllib.request.Request(url, headers={"User-Agent": AGENT})
        self._rest(0)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                rules.parse(response.read(_LONGEST_ROBOTS).decode("utf-8", "replace").splitlines())
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in (404, 410):
                raise CorpusError(f"{url}: expected the site's rules, got status {error.code} {error.reason}") from None
            rules.parse([])  # a site without rules allows everything
        except (OSError, HTTPException, UnicodeError) as error:  # UnicodeError: no name that a host can have
            raise CorpusError(f"{self.mirror}: cannot be reached: {error}") from None
        self._delay_s = max(self._delay_s, float(rules.crawl_delay(AGENT) or 0))
        return rules

    def _download(self, url: str, part: Path) -> None:
        """Bring `url` into `part`, going on where an earlier try ended."""
        problem = ""
        for attempt in range(ATTEMPTS):
            try:
                return self._download_rest(url, part)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 416:  # what is there does not fit what the server has
                    part.unlink(missing_ok=True)
                elif error.code not in (429, 500, 502, 503, 504):
                    raise CorpusError(f"{url}: expected the book, got status {error.code} {error.reason}") from None
                problem, wait_s = str(error), _retry_after_s(error)
            except (OSError, HTTPException, _CutOffError) as error:
                problem, wait_s = str(error), None
            self._rest(wait_s if wait_s is not None else self._delay_s * 2 ** (attempt + 1))
        raise CorpusError(f"{url}: gave up after {ATTEMPTS} tries: {problem}")

    def _download_rest(self, url: str, part: Path) -> None:
        self._rest(0)
        start = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(url, headers={"User-Agent": AGENT} | _range(start))
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            resumes = response.status == 206
            if resumes and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                part.unlink()  # the next try asks for the whole
                raise _CutOffError(f"expected the book from byte {start}, got {response.headers['Content-Range']}")
            with part.open("ab" if resumes else "wb") as file:
                _copy(response, file.write)

    def _rest(self, extra_s: float) -> None:
        """Wait until the next request is due."""
        time.sleep(max(0.0, self._next_request_s - time.monotonic(), min(extra_s, LONGEST_WAIT_S)))
        self._next_request_s = time.monotonic() + self._delay_s


def strip_licence(text: str, source: str) -> str:
    """Return the book alone. Raises CorpusError where it is copyrighted or its ends cannot be found."""
    if _OF_COPYRIGHT.search(text[:20_000]):
        raise CorpusError(f"{source}: this book is under copyright; only public-domain books are fetched")
    start = _START.search(text) or _OLD_START.search(text)
    end = _END.search(text, start.end()) if start else None
    if start is None or end is None:
        missing = "first" if start is None else "last"
        raise CorpusError(f"{source}: expected Project Gutenberg's marks around the book, the {missing} one is missing")
    book = text[start.end() : end.start()].strip("\n")
    while _CREDITS.match(book):
        _, _, book = book.lstrip().partition("\n\n")
    return re.sub(r"(?im)^.*project gutenberg.*$", "", book).strip("\n") + "\n"


def read_manifest(folder: Path) -> list[Book]:
    """Return the rows of the folder's manifest.tsv. Raises CorpusError where it is not one."""
    path = folder / "manifest.tsv"
    if not path.exists():
        return []
    expected = [field.name for field in fields(Book)]
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t")
            if rows.fieldnames != expected:
                raise CorpusError(f"{path}: expected the columns {', '.join(expected)}, got {rows.fieldnames}")
            return [Book(**{**row, "number": int(row["number"]), "words": int(row["words"])}) for row in rows]  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:  # half a row, no number, no UTF-8
        raise CorpusError(f"{path}: expected a row of {len(expected)} columns for each book: {error}") from None


def write_manifest(folder: Path, books: list[Book]) -> None:
    """Write manifest.tsv, aside and renamed."""
    aside = folder / ".manifest.tsv"
    with aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Book)], delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(book) for book in books)
    aside.replace(folder / "manifest.tsv")


def _site(mirror: str) -> str:
    try:
        parts = urlsplit(mirror)
        is_site = parts.scheme in ("http", "https") and bool(parts.netloc)
    except ValueError:
        is_site = False
    if not is_site:
        raise CorpusError(f"--mirror must be a site such as https://gutenberg.example, got {mirror!r}")
    return f"{parts.scheme}://{parts.netloc}"


class _CutOffError(Exception):
    """The connection closed before the whole body came, or another part came."""


def _copy(response: HTTPResponse, write: Callable[[bytes], object]) -> None:
    expected, received = response.length, 0
    while chunk := response.read(_CHUNK_BYTES):
        received += len(chunk)
        write(chunk)
    if expected is not None and received < expected:
        raise _CutOffError(f"expected {expected} bytes, got {received}")


def _range(start: int) -> dict[str, str]:
    return {"Range": f"bytes={start}-"} if start else {}


def _retry_after_s(error: urllib.error.HTTPError) -> float | None:
    value = error.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else None


def _header(text: str, name: str) -> str | None:
    match = re.search(rf"^{name}:[ \t]*(.+)$", text[:20_000], re.MULTILINE)
    return match.group(1).strip() if match else None


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60].rstrip("-")


def _is_whole(folder: Path, book: Book) -> bool:
    path = folder / book.file
    return path.exists() and _sha256(path.read_bytes()) == book.sha256


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
