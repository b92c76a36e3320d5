"""Makes any text safe to show in Discord: it reads as written, pings nobody, links nowhere, formats nothing.

The first guard against pings is that no message allows any mention; this is the second, so that a text which somebody
copies and sends again is harmless too. Follows Discord's markdown: a backslash before punctuation shows it plainly.
"""

import re

ZERO_WIDTH_SPACE = "\u200b"

# Marks that mean something wherever they stand. A colon or a slash would make a link, an emoji or an invitation.
_ANYWHERE = re.compile(r"[\\*_~|`\[\]<:/]")
# Marks that mean something only where a line starts: headings, lists, quotes, small print.
_LINE_START = re.compile(r"^([^\S\n]*)(?:([#>+-])|(\d+)(\.))", re.MULTILINE)
_AT = re.compile(r"@(?!\u200b)")
_ESCAPED = re.compile(r"\\([^0-9A-Za-z\s])")


def escape(text: str) -> str:
    """Return `text` so that Discord shows it letter by letter. The start of `text` is taken for a line's start."""
    text = _ANYWHERE.sub(r"\\\g<0>", text)
    text = _LINE_START.sub(_escape_line_start, text)
    return _AT.sub("@" + ZERO_WIDTH_SPACE, text)


def unescape(text: str) -> str:
    """Return what was escaped; equal to the original unless that held a zero-width space after an @."""
    return _ESCAPED.sub(r"\1", text).replace("@" + ZERO_WIDTH_SPACE, "@")


def _escape_line_start(match: re.Match[str]) -> str:
    indent, mark, number, dot = match.groups()
    return f"{indent}\\{mark}" if mark else f"{indent}{number}\\{dot}"
