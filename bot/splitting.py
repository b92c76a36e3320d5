"""Lays a story out in Discord messages: the prompt bold, what was written plain, each page within Discord's limit.

Joining the pages' texts gives the story exactly: nothing lost, nothing doubled. A page that is full never changes when
the story grows behind it, so only the last one is ever edited.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from .escaping import ZERO_WIDTH_SPACE, escape, unescape

MESSAGE_CHARS = 2000
NOTE_CHARS = 200  # room under the last page for one line of small print
PAGE_CHARS = MESSAGE_CHARS - NOTE_CHARS
BOLD_CHARS = len("****")
NOTE_START = "\n-# "

_SENTENCE_END = re.compile(r"[.!?…][\"'”’»)\]*_]*\s+")
_SPACE = re.compile(r"\s+")
_BOLD = re.compile(r"(\\.)|\*\*")  # a star of the text itself is escaped
_JOINERS = {"\u200d", "\ufe0e", "\ufe0f"}  # these and what follows them belong to the character before


@dataclass(frozen=True, slots=True)
class Page:
    """One message's share of a story, as it was written."""

    prompt: str
    written: str

    def __str__(self) -> str:
        """Return the message's content."""
        content = _bold(self.prompt) + (escape(self.written) if self.written else "")
        return content if content.strip() else ZERO_WIDTH_SPACE  # Discord refuses a message of spaces


def pages(prompt: str, written: str) -> list[Page]:
    """Split a story into pages at paragraphs, else sentences, else words, else anywhere between characters."""
    cuts = [0, *_cuts(prompt + written)]
    border = len(prompt)
    story = prompt + written
    return [
        Page(prompt=story[start : min(end, border)], written=story[max(start, border) : end])
        for start, end in pairwise(cuts)
    ]


def with_note(content: str, note: str) -> str:
    """Put one line of small print under a page."""
    assert len(note) <= NOTE_CHARS - len(NOTE_START), note
    return content.rstrip() + NOTE_START + note


def text_of(content: str) -> str:
    """Return the share of a story that a message shows, as it was written."""
    page, has_note, _ = content.rpartition(NOTE_START)
    return unescape(_BOLD.sub(r"\1", page if has_note else content))


def _cuts(text: str) -> Iterator[int]:
    start = 0
    while (size := _fitting(text, start)) < len(text) - start:
        start += _best_cut(text[start : start + size + 1])
        yield start
    yield len(text)


def _fitting(text: str, start: int) -> int:
    """Return how many characters from `start` fill a page at most."""
    size = min(len(text) - start, PAGE_CHARS)
    while (excess := _length(escape(text[start : start + size])) + BOLD_CHARS - PAGE_CHARS) > 0:
        size -= max(1, excess // 2)  # a character costs two at most
    return size


def _best_cut(text: str) -> int:
    """Return where to cut a page that must end before the last character of `text`."""
    size = len(text) - 1
    for separator, earliest in (("\n\n", size // 2), ("\n", size // 2)):
        found = text.rfind(separator, earliest, size)
        if found > 0 and found + len(separator) <= size:
            return found + len(separator)
    for pattern, earliest in ((_SENTENCE_END, size // 2), (_SPACE, size // 4)):
        ends = [match.end() for match in pattern.finditer(text, earliest, size)]
        if ends:
            return ends[-1]
    cut = size
    while cut > size // 2 and _belongs_to_previous(text, cut):
        cut -= 1
    return cut


def _belongs_to_previous(text: str, index: int) -> bool:
    here, before = text[index], text[index - 1]
    is_skin_tone = "\U0001f3fb" <= here <= "\U0001f3ff"
    return bool(unicodedata.combining(here)) or here in _JOINERS or before == "\u200d" or is_skin_tone


def _length(text: str) -> int:
    """Count as strictly as any client does: in UTF-16 units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _bold(text: str) -> str:
    core = text.strip()
    if not core:
        return text
    start = text.index(core)
    return f"{text[:start]}**{escape(core)}**{text[start + len(core) :]}"
