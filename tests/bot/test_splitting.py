from hypothesis import given, settings
from hypothesis import strategies as st

from bot.escaping import unescape
from bot.splitting import MESSAGE_CHARS, NOTE_CHARS, PAGE_CHARS, Page, pages, text_of, with_note

PIECES = ["word ", "Word. ", "“Speech!” ", "\n\n", "\n", "*", "@everyone ", "👩‍👩‍👧 ", "é", "x" * 700, "# ", "1. "]
prose = st.lists(st.sampled_from(PIECES), max_size=400).map("".join)


def written(text: str) -> list[str]:
    return [page.written for page in pages("", text)]


@settings(deadline=None)
@given(prose, prose)
def test_the_pages_joined_are_the_story(prompt: str, text: str) -> None:
    split = pages(prompt, text)
    assert "".join(page.prompt for page in split) == prompt
    assert "".join(page.written for page in split) == text


@settings(deadline=None)
@given(prose, prose)
def test_every_page_has_room_for_its_note(prompt: str, text: str) -> None:
    for page in pages(prompt, text):
        assert 0 < len(str(page).encode("utf-16-le")) // 2 <= PAGE_CHARS


@settings(deadline=None)
@given(prose, st.integers(0, 3000))
def test_a_full_page_never_changes_while_the_story_grows(text: str, length: int) -> None:
    early, late = pages("", text[:length]), pages("", text)
    settled = early[:-2]  # the page before the last may still lose a line's start or a joined character
    assert late[: len(settled)] == settled


def test_a_story_is_cut_at_a_paragraph_first() -> None:
    first, second = "One sentence. " * 80 + "\n\n", "Another one. " * 100
    assert written(first + second)[0] == first


def test_it_is_cut_at_a_sentence_where_there_is_no_paragraph() -> None:
    text = "Word after word goes by. " * 100
    assert all(page.endswith(". ") for page in written(text))


def test_it_is_cut_at_a_word_where_there_is_no_sentence() -> None:
    assert all(page.endswith("word ") for page in written("word " * 600))


def test_a_family_of_one_character_is_not_torn_apart() -> None:
    assert all(page.startswith("👩") for page in written("👩‍👩‍👧" * 500))


def test_the_prompt_is_bold_on_every_page_it_reaches() -> None:
    split = pages("word " * 500, "and so on")
    assert [str(page).startswith("**word") for page in split] == [True, True]
    assert str(split[1]).endswith("** and so on")


def test_marks_in_the_prompt_cannot_end_its_bold() -> None:
    assert str(Page(prompt="a ** b ", written="c")) == r"**a \*\* b** c"


def test_a_page_of_nothing_is_still_a_message() -> None:
    assert str(pages("", "")[0]) == "\u200b"


def test_a_note_fits_under_the_fullest_page() -> None:
    page = str(pages("", "x" * 5000)[0])
    assert len(with_note(page, "n" * (NOTE_CHARS - 4))) <= MESSAGE_CHARS


def test_what_is_shown_reads_as_it_was_written() -> None:
    text = "“*Run!*” said @everyone. See https://example.com"
    assert unescape(str(Page(prompt="", written=text))) == text


@settings(deadline=None)
@given(prose, prose)
def test_a_message_gives_its_share_of_the_story_back(prompt: str, written: str) -> None:
    for page in pages(prompt, written):
        shown = text_of(with_note(str(page), "seed 7"))
        assert shown.strip(" \n\u200b") == (page.prompt + page.written).strip()
