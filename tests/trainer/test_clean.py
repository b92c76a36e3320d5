"""Text as it comes becomes text as the corpus wants it, and every change is counted."""

from pathlib import Path

import pytest

from core.errors import CorpusError
from trainer.clean import Changes, Cleaning, clean, clean_folder, decode, join_lines, plain_punctuation

WRAPPED = """\
THE LAMP

The lamp had been in the family for so long that nobody could say any
more who had bought it, or where, or whether it had ever given light to
anyone at all.

"It hums," said Ida.

A lamp, a lamp,
  the night is damp,
and who goes there?

She put her ear to the glass. It was true: somewhere far inside, as far as
the bottom of a well, something was humming a tune that she had heard once
before.
"""


def test_hard_wrapped_prose_becomes_one_line_a_paragraph_and_verse_keeps_its_lines() -> None:
    text, joined = join_lines(WRAPPED)
    title, prose, speech, verse, last = text.rstrip("\n").split("\n\n")
    assert title == "THE LAMP"
    assert prose.endswith(
        "say any more who had bought it, or where, or whether it had ever given light to anyone at all."
    )
    assert speech == '"It hums," said Ida.'
    assert verse == "A lamp, a lamp,\nthe night is damp,\nand who goes there?"
    assert "\n" not in last
    assert joined == 4


def test_words_that_a_wrap_broke_at_their_hyphen_become_whole() -> None:
    lines = (
        "The gentlemen of the house sat down at the card-",
        "table, and many of them, so it was said there--",
        "perhaps all--had come by coach from the east-",
        "and west-country, where roads were very bad.",
    )
    text, _ = clean("\n".join(lines).encode(), Cleaning())
    assert text == (
        "The gentlemen of the house sat down at the card-table, and many of them, so it was said there—perhaps "
        "all—had come by coach from the east- and west-country, where roads were very bad.\n"
    )


def test_text_with_a_paragraph_a_line_stays_as_it_is() -> None:
    text = "One.\n\n" + "A long paragraph that goes on and on. " * 20 + "End.\n\nRoses are red,\nviolets blue.\n"
    assert join_lines(text) == (text, 0)


def test_marks_become_plain() -> None:
    text, count = plain_punctuation("“Don’t,” she said--_very_ softly … and left — at last.")
    assert text == '"Don\'t," she said—very softly ... and left—at last.'
    assert count == 7


def test_a_rule_of_dashes_and_snake_case_are_no_punctuation() -> None:
    text = "-----\nsome_file_name"
    assert plain_punctuation(text) == (text, 0)


@pytest.mark.parametrize(
    ("content", "text", "encoding"),
    [
        ("naïve".encode(), "naïve", "UTF-8"),
        (b"\xef\xbb\xbfmarked", "marked", "UTF-8"),
        ("naïve".encode("utf-16"), "naïve", "UTF-16"),
        ("Привет, мир".encode("utf-16-le"), "Привет, мир", "UTF-16"),
        ("Привет, мир".encode("utf-16-be"), "Привет, мир", "UTF-16"),
        ("“naïve”".encode("cp1252"), "“naïve”", "windows-1252"),
        ("naïve\n".encode() + "café".encode("latin-1"), "naïve\ncafé", "UTF-8 mixed with windows-1252"),
    ],
)
def test_each_encoding_is_read_and_named(content: bytes, text: str, encoding: str) -> None:
    read, changes = decode(content)
    assert (read, changes.encoding) == (text, encoding)


def test_an_encoding_can_be_named() -> None:
    text, changes = clean("Однажды, давно\n".encode("cp1251"), Cleaning(encoding="windows-1251"))
    assert (text, changes.encoding) == ("Однажды, давно\n", "windows-1251")


def test_every_change_is_counted() -> None:
    text, changes = clean(b"Caf\xe9 &amp; cr&#232;me\x07\r\nsaid \x93Ida\x94 & co. &nosuch;", Cleaning())
    assert text == 'Café & crème\nsaid "Ida" & co. &nosuch;\n'
    assert changes == Changes(
        encoding="windows-1252", recoded_lines=2, dropped_controls=1, entities=2, joined_lines=0, plain_marks=2
    )
    assert str(changes) == (
        "windows-1252, 2 lines were no UTF-8, 1 control characters dropped, 2 HTML entities resolved, "
        "2 marks made plain"
    )


def test_each_step_can_be_left_out() -> None:
    off = Cleaning(entities=False, joined_lines=False, plain_punctuation=False, drop_duplicates=False)
    assert clean("“A &amp; B”".encode(), off)[0] == "“A &amp; B”"


def test_a_folder_is_cleaned_beside_itself_and_twins_are_left_out(tmp_path: Path) -> None:
    source, target = tmp_path / "raw", tmp_path / "clean"
    (source / "deep").mkdir(parents=True)
    (source / "a.txt").write_text("A cat  sat.")
    (source / "b.txt").write_text("a CAT sat!")
    (source / "deep" / "c.txt").write_text("Another story.")
    (source / "void.txt").write_text(" \n")
    report = clean_folder(source, target, Cleaning())
    assert sorted(path.relative_to(target) for path in target.rglob("*.txt")) == [Path("a.txt"), Path("deep/c.txt")]
    assert list(report.lines()) == [
        "a.txt: UTF-8",
        "deep/c.txt: UTF-8",
        "b.txt: left out, its text stands in a.txt",
        "void.txt: left out, no words in it",
    ]
    assert (source / "b.txt").read_text() == "a CAT sat!"


def test_what_is_left_out_now_does_not_stay_from_an_earlier_run(tmp_path: Path) -> None:
    source, target = tmp_path / "raw", tmp_path / "clean"
    source.mkdir()
    for name in ("a.txt", "b.txt", "c.txt"):
        (source / name).write_text("A cat sat.")
    clean_folder(source, target, Cleaning(drop_duplicates=False))
    (source / "c.txt").write_text("\n")
    clean_folder(source, target, Cleaning())
    assert [path.name for path in target.iterdir()] == ["a.txt"]


def test_lines_of_an_old_mac_are_told_apart_by_their_encodings() -> None:
    text, changes = decode("déjà vu\r".encode() + "déjà vu\r".encode("cp1252"))
    assert (text, changes.recoded_lines) == ("déjà vu\rdéjà vu\r", 1)


def test_an_edition_with_another_preface_is_the_same_book(tmp_path: Path) -> None:
    source = tmp_path / "raw"
    source.mkdir()
    book = " ".join(f"word{number * number}" for number in range(4000))
    (source / "a.txt").write_text(book)
    (source / "b.txt").write_text("A preface by somebody else altogether. " * 100 + book)
    (source / "c.txt").write_text(" ".join(f"other{number * number}" for number in range(4000)))
    report = clean_folder(source, tmp_path / "clean", Cleaning())
    assert report.duplicates == {Path("a.txt"): Path("b.txt")}


def test_a_collection_is_no_copy_of_one_of_its_stories(tmp_path: Path) -> None:
    source = tmp_path / "raw"
    source.mkdir()
    story, rest = (" ".join(f"{word}{number * number}" for number in range(4000)) for word in ("owl", "fox"))
    (source / "a-story.txt").write_text(story)
    (source / "collected.txt").write_text(story + " " + rest)
    (source / "the-story-again.txt").write_text(story.upper())
    report = clean_folder(source, tmp_path / "clean", Cleaning())
    assert report.duplicates == {Path(name): Path("collected.txt") for name in ("a-story.txt", "the-story-again.txt")}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-le", "klingon"])
def test_an_encoding_that_lines_cannot_be_read_in_is_refused(encoding: str) -> None:
    with pytest.raises(CorpusError, match=f"contains ASCII, such as windows-1251 or iso-8859-2, got '{encoding}'"):
        Cleaning(encoding=encoding)


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"expected a \.txt file or a folder of them, found none"):
        clean_folder(tmp_path / "none", tmp_path / "clean", Cleaning())


def test_texts_without_words_are_no_twins(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.txt").write_text("🦊 🦉")
    (tmp_path / "raw" / "b.txt").write_text("— — —")
    assert len(clean_folder(tmp_path / "raw", tmp_path / "clean", Cleaning()).kept) == 2


def test_an_original_behind_a_link_is_not_written_through(tmp_path: Path) -> None:
    for folder in ("raw", "clean"):
        (tmp_path / folder).mkdir()
    (tmp_path / "raw" / "a.txt").write_text("A caf&eacute;.")
    (tmp_path / "clean" / "a.txt").symlink_to(tmp_path / "raw" / "a.txt")
    clean_folder(tmp_path / "raw", tmp_path / "clean", Cleaning())
    assert (tmp_path / "clean" / "a.txt").read_text() == "A café.\n"
    assert (tmp_path / "raw" / "a.txt").read_text() == "A caf&eacute;."


def test_the_originals_are_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A cat.")
    with pytest.raises(CorpusError, match="so that the originals stay as they are"):
        clean_folder(tmp_path, tmp_path / "clean", Cleaning())
    with pytest.raises(CorpusError, match="so that the originals stay as they are"):
        clean_folder(tmp_path / "a.txt", tmp_path, Cleaning())
    assert (tmp_path / "a.txt").read_text() == "A cat."
