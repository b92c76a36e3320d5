"""Books come from a real HTTP server on localhost, one that also cuts connections, asks for patience and refuses."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from core.errors import CorpusError
from trainer.gutenberg import Gutenberg, read_manifest, strip_licence

BOOK = """\
The Project Gutenberg eBook of The Copper Owl

Title: The Copper Owl

Author: Ada Quill

*** START OF THE PROJECT GUTENBERG EBOOK THE COPPER OWL ***

Produced by Somebody and the Distributed Proofreaders


THE COPPER OWL

The owl was made of copper and had sat upon the clock for two hundred
years without once being asked its opinion about the time, which it
knew better than the clock.

"Well--now you may ask," it said.

End of Project Gutenberg's The Copper Owl, by Ada Quill

*** END OF THE PROJECT GUTENBERG EBOOK THE COPPER OWL ***

Updated editions will replace the previous one.
"""
CLEANED = """\
THE COPPER OWL

The owl was made of copper and had sat upon the clock for two hundred years without once being asked its opinion about \
the time, which it knew better than the clock.

"Well—now you may ask," it said.
"""


class Library(ThreadingHTTPServer):
    """Serves BOOK as e-book 7 and remembers who asked for what; `troubles` are met once each, in order."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Desk)
        self.books: dict[int, bytes] = {7: BOOK.encode()}
        self.robots, self.robots_status = "User-agent: *\nDisallow: /private/\n", 200
        self.troubles: list[str] = []
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Desk(BaseHTTPRequestHandler):
    server: Library

    def do_GET(self) -> None:
        if self.path == "/robots.txt":
            self._answer(self.server.robots_status, self.server.robots.encode())
            return
        self.server.requests.append((self.path, self.headers["Range"]))
        match = re.fullmatch(r"/cache/epub/(\d+)/pg\1\.txt", self.path)
        book = self.server.books.get(int(match[1])) if match and "fablewright" in self.headers["User-Agent"] else None
        trouble = self.server.troubles.pop(0) if self.server.troubles else ""
        start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if self.headers["Range"] else 0
        if book is None:
            self._answer(404, b"no such book")
        elif trouble == "busy":
            self._answer(503, b"later", {"Retry-After": "0"})
        elif start >= len(book):
            self._answer(416, b"")
        else:
            rest = book if trouble == "whole" else book[start:]
            part = {"Content-Range": f"bytes {len(book) - len(rest)}-{len(book) - 1}/{len(book)}"} if start else {}
            sent = rest[: len(rest) // 2] if trouble == "cut" else rest
            self._answer(206 if start else 200, rest, part, sent=sent)

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, sent: bytes | None = None
    ) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if sent is None else sent)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output quiet."""


@pytest.fixture
def library() -> Iterator[Library]:
    with Library() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def visitor(library: Library) -> Gutenberg:
    return Gutenberg(library.url, delay_s=0.001)


def test_a_book_arrives_without_licence_and_hard_wraps(visitor: Gutenberg, tmp_path: Path) -> None:
    books, failures = visitor.fetch([7], tmp_path)
    assert not failures
    assert (tmp_path / "quill-the-copper-owl-7.txt").read_text() == CLEANED
    assert (books[0].title, books[0].author, books[0].words) == ("The Copper Owl", "Ada Quill", 41)
    assert read_manifest(tmp_path) == books
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_cut_download_goes_on_where_it_ended(visitor: Gutenberg, library: Library, tmp_path: Path) -> None:
    library.troubles = ["cut", "cut"]
    _, failures = visitor.fetch([7], tmp_path)
    assert not failures
    half = len(BOOK.encode()) // 2
    assert [asked for _, asked in library.requests] == [
        None,
        f"bytes={half}-",
        f"bytes={half + (len(BOOK) - half) // 2}-",
    ]
    assert (tmp_path / "quill-the-copper-owl-7.txt").read_text() == CLEANED


def test_a_later_run_goes_on_with_the_half_that_is_there(visitor: Gutenberg, library: Library, tmp_path: Path) -> None:
    (tmp_path / ".7.part").write_bytes(BOOK.encode()[:100])
    visitor.fetch([7], tmp_path)
    assert library.requests == [("/cache/epub/7/pg7.txt", "bytes=100-")]
    assert (tmp_path / "quill-the-copper-owl-7.txt").read_text() == CLEANED


def test_another_part_than_was_asked_for_is_not_put_behind_the_half(
    visitor: Gutenberg, library: Library, tmp_path: Path
) -> None:
    library.troubles = ["cut", "whole"]
    _, failures = visitor.fetch([7], tmp_path)
    assert not failures
    assert [asked for _, asked in library.requests] == [None, f"bytes={len(BOOK.encode()) // 2}-", None]
    assert (tmp_path / "quill-the-copper-owl-7.txt").read_text() == CLEANED


def test_a_half_that_fits_no_book_is_thrown_away(visitor: Gutenberg, library: Library, tmp_path: Path) -> None:
    (tmp_path / ".7.part").write_bytes(b"x" * 5000)
    visitor.fetch([7], tmp_path)
    assert (tmp_path / "quill-the-copper-owl-7.txt").read_text() == CLEANED


def test_a_busy_server_is_asked_again_later(visitor: Gutenberg, library: Library, tmp_path: Path) -> None:
    library.troubles = ["busy", "busy"]
    assert visitor.fetch([7], tmp_path)[1] == {}
    assert len(library.requests) == 3


def test_a_server_that_stays_busy_is_given_up(visitor: Gutenberg, library: Library, tmp_path: Path) -> None:
    library.troubles = ["busy"] * 10
    _, failures = visitor.fetch([7], tmp_path)
    assert "gave up after 4 tries: HTTP Error 503" in str(failures[7])
    assert len(library.requests) == 4


def test_what_is_there_is_not_fetched_again(visitor: Gutenberg, library: Library, tmp_path: Path) -> None:
    first, _ = visitor.fetch([7], tmp_path)
    again, _ = visitor.fetch([7, 7], tmp_path)
    assert again == first
    assert len(library.requests) == 1


def test_a_damaged_file_is_fetched_again(visitor: Gutenberg, library: Library, tmp_path: Path) -> None:
    books, _ = visitor.fetch([7], tmp_path)
    (tmp_path / books[0].file).write_text("half of it")
    visitor.fetch([7], tmp_path)
    assert (tmp_path / books[0].file).read_text() == CLEANED


def test_one_missing_book_does_not_lose_the_rest(visitor: Gutenberg, tmp_path: Path) -> None:
    books, failures = visitor.fetch([8, 7, 0], tmp_path)
    assert [book.number for book in books] == [7]
    assert "expected the book, got status 404" in str(failures[8])
    assert "expected an e-book number of at least 1, got 0" in str(failures[0])


def test_robots_txt_is_obeyed(visitor: Gutenberg, library: Library, tmp_path: Path) -> None:
    library.robots = "User-agent: *\nDisallow: /cache/\n"
    _, failures = visitor.fetch([7], tmp_path)
    assert "robots.txt does not allow this" in str(failures[7])
    assert library.requests == []


def test_a_site_without_robots_txt_allows_everything(visitor: Gutenberg, library: Library, tmp_path: Path) -> None:
    library.robots_status = 404
    assert visitor.fetch([7], tmp_path)[1] == {}


def test_a_site_that_cannot_tell_its_rules_is_named_with_its_status(
    visitor: Gutenberg, library: Library, tmp_path: Path
) -> None:
    library.robots_status = 503
    _, failures = visitor.fetch([7], tmp_path)
    assert "/robots.txt: expected the site's rules, got status 503" in str(failures[7])
    assert library.requests == []


def test_the_delay_that_a_site_asks_for_is_kept(
    visitor: Gutenberg, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("trainer.gutenberg.time.sleep", waits.append)
    library.robots = "User-agent: *\nCrawl-delay: 30\n"
    library.books[8] = BOOK.encode()
    assert visitor.fetch([7, 8], tmp_path)[1] == {}
    assert 29 < max(waits) <= 30


def test_a_book_under_copyright_is_refused(visitor: Gutenberg, library: Library, tmp_path: Path) -> None:
    library.books[9] = b"** This is a COPYRIGHTED Project Gutenberg eBook, Details Below **\n" + BOOK.encode()
    _, failures = visitor.fetch([9], tmp_path)
    assert "under copyright" in str(failures[9])
    assert list(tmp_path.glob("*.txt")) == []


def test_a_book_without_its_end_is_refused() -> None:
    with pytest.raises(CorpusError, match="pg7: expected Project Gutenberg's marks around the book, the last one"):
        strip_licence(BOOK[: BOOK.index("End of")], "pg7")


def test_a_foreign_manifest_is_named(visitor: Gutenberg, tmp_path: Path) -> None:
    (tmp_path / "manifest.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(CorpusError, match=r"manifest.tsv: expected the columns file, title, .* got \['a', 'b'\]"):
        visitor.fetch([7], tmp_path)


def test_a_page_that_is_no_book_is_not_gone_on_with(visitor: Gutenberg, library: Library, tmp_path: Path) -> None:
    whole, library.books[7] = library.books[7], b"Too many requests, come back later."
    assert "marks around the book" in str(visitor.fetch([7], tmp_path)[1][7])
    library.books[7] = whole
    (book,), failures = visitor.fetch([7], tmp_path)
    assert failures == {}
    assert book.title != "E-book 7"


def test_a_broken_row_of_a_manifest_is_named(visitor: Gutenberg, tmp_path: Path) -> None:
    visitor.fetch([7], tmp_path)
    with (tmp_path / "manifest.tsv").open("a") as file:
        file.write("half.txt\tHalf a row\n")
    with pytest.raises(CorpusError, match=r"manifest\.tsv: expected a row of 8 columns for each book"):
        visitor.fetch([7], tmp_path)


def test_a_mirror_that_is_no_address_is_named(tmp_path: Path) -> None:
    _, failures = Gutenberg("http://[bad").fetch([7], tmp_path)
    assert "--mirror must be a site such as" in str(failures[7])
    _, failures = Gutenberg("http://a..b").fetch([7], tmp_path)
    assert "http://a..b: cannot be reached" in str(failures[7])
