import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.escaping import escape, unescape


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("*bold* _under_ ~~gone~~ ||hidden|| `code`", r"\*bold\* \_under\_ \~\~gone\~\~ \|\|hidden\|\| \`code\`"),
        ("https://example.com/a", r"https\:\/\/example.com\/a"),
        ("discord.gg/abc", r"discord.gg\/abc"),
        ("[name](link)", r"\[name\](link)"),
        (":smile: and 10:30", r"\:smile\: and 10\:30"),
        ("# heading\n- item\n+ item\n> quote", "\\# heading\n\\- item\n\\+ item\n\\> quote"),
        ("12. item\n  3. item", "12\\. item\n  3\\. item"),
        ("-# small", r"\-# small"),
        ("a - b # c > d 1. e", "a - b # c > d 1. e"),
        (r"back\slash", r"back\\slash"),
    ],
)
def test_markdown_is_shown_as_it_was_written(text: str, shown: str) -> None:
    assert escape(text) == shown


@pytest.mark.parametrize("mention", ["@everyone", "@here", "<@1>", "<@!1>", "<@&2>"])
def test_no_mention_survives(mention: str) -> None:
    assert mention not in escape(f"Hello {mention} there")


@pytest.mark.parametrize("tag", ["<#3>", "<t:0>", "</write:4>", "<:a:5>"])
def test_no_tag_of_discords_own_is_opened(tag: str) -> None:
    assert escape(tag).startswith("\\<")


@given(st.text())
def test_what_was_escaped_can_be_had_again(text: str) -> None:
    assert unescape(escape(text)) == text.replace("@\u200b", "@")


@given(st.text(alphabet="a *_~|`[]<>:/\\@#-+.1\n"))
def test_no_mark_is_left_without_its_backslash(text: str) -> None:
    shown = escape(text)
    unescaped = "".join(piece[1:] if i else piece for i, piece in enumerate(shown.replace("\\\\", "").split("\\")))
    assert not set(unescaped) & set("*_~|`[]<:/")
