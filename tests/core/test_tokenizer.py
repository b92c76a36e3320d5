"""The tokenizer loses nothing, and text that comes in pieces is the text that comes at once."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import CheckpointError, CorpusError, InputError
from core.tokenizer import IncrementalDecoder, Tokenizer
from tests.tiny import TEXT

TOKENIZERS = {kind: Tokenizer.train([TEXT], vocab_size=400, kind=kind) for kind in ("unigram", "bpe", "char", "word")}
UNIGRAM = TOKENIZERS["unigram"]

AWKWARD = [
    "",
    " ",
    "  two  spaces  ",
    "\n",
    "\n\n",
    "\n\n\n",
    "a\n\nb\n c\r\n\td",
    "a literal \u2581 and \u2585, a NUL \0, a BOM \ufeff",
    "<document> <unk> <s> </s> <0xE2> <0x0A>",
    '"Straight," \u201cround\u201d and \u2018single\u2019 \u2014 quotes...',
    "日本語の文章、 العربية, Ελληνικά",
    "🙂👩‍👩‍👧‍👦🏳️‍🌈 e\u0301 é \u200b\u00a0",
    "\ufffd",
    "\U0010ffff\x7f\x80",
]


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_text_survives_a_round_trip(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text())
@settings(deadline=None)
def test_any_text_survives_a_round_trip(text: str) -> None:
    assert UNIGRAM.decode(UNIGRAM.encode(text)) == text


@given(st.text(alphabet="ab \n\u2581\0.\u65e5<>"))
@settings(deadline=None)
def test_dense_white_space_and_reserved_characters_survive_a_round_trip(text: str) -> None:
    assert UNIGRAM.decode(UNIGRAM.encode(text)) == text


@given(st.lists(st.integers(0, UNIGRAM.vocab_size - 1)))
@settings(deadline=None)
def test_any_ids_decode_piece_by_piece_as_they_do_at_once(ids: list[int]) -> None:
    decoder = IncrementalDecoder(UNIGRAM)
    assert "".join(decoder.push(id) for id in ids) + decoder.flush() == UNIGRAM.decode(ids)


@given(st.text(), st.text())
@settings(deadline=None)
def test_nothing_is_added_or_eaten_at_the_seam(prompt: str, continuation: str) -> None:
    ids = UNIGRAM.encode(prompt) + UNIGRAM.encode(continuation)
    assert UNIGRAM.decode(ids) == prompt + continuation


def test_a_character_of_several_bytes_is_shown_whole_or_not_at_all() -> None:
    decoder = IncrementalDecoder(UNIGRAM)
    shown = [decoder.push(id) for id in UNIGRAM.encode("日")]
    assert shown == ["", "", "日"]


def test_an_unfinished_character_becomes_a_replacement_character() -> None:
    first, _, _ = UNIGRAM.encode("日")
    decoder = IncrementalDecoder(UNIGRAM)
    assert decoder.push(first) == ""
    assert decoder.flush() == "\ufffd" == UNIGRAM.decode([first])


def test_a_paragraph_break_is_one_piece() -> None:
    ids = UNIGRAM.encode("wood.\n\nThe")
    assert ids.count(UNIGRAM.paragraph_id) == 1
    assert UNIGRAM.piece(UNIGRAM.paragraph_id) == "\n\n"


def test_control_symbols_written_in_a_text_are_only_text() -> None:
    assert UNIGRAM.document_id not in UNIGRAM.encode("<document>")
    assert UNIGRAM.unknown_id not in UNIGRAM.encode("<unk>")


def test_the_document_boundary_has_no_text() -> None:
    assert UNIGRAM.decode([UNIGRAM.document_id, *UNIGRAM.encode("fox"), UNIGRAM.document_id]) == "fox"


def test_a_lone_surrogate_is_refused_with_its_place() -> None:
    with pytest.raises(InputError, match="lone surrogate at character 2"):
        UNIGRAM.encode("ab\ud800")


def test_a_tokenizer_survives_its_own_bytes(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(UNIGRAM.to_bytes())
    assert Tokenizer.load(tmp_path / "tokenizer.model").encode(TEXT) == UNIGRAM.encode(TEXT)


@pytest.mark.parametrize("damage", [b"", b"not a model", UNIGRAM.to_bytes()[:1000]])
def test_damaged_bytes_are_refused_with_the_file(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "tokenizer.model"
    file.write_bytes(damage)
    with pytest.raises(CheckpointError, match=r"tokenizer\.model"):
        Tokenizer.load(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.model"):
        Tokenizer.load(tmp_path / "gone.model")


def test_no_text_gives_no_vocabulary() -> None:
    with pytest.raises(CorpusError, match="got none"):
        Tokenizer.train(["", "\n"], vocab_size=400)


def test_a_text_of_one_character_still_gives_a_vocabulary() -> None:
    tokenizer = Tokenizer.train(["aaaaaaaa" * 1000], vocab_size=400)
    assert tokenizer.decode(tokenizer.encode("aaa b")) == "aaa b"


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="'wordpiece'"):
        Tokenizer.train([TEXT], vocab_size=400, kind="wordpiece")  # type: ignore[arg-type]


def test_words_are_one_piece_each_wherever_they_stand_in_a_line() -> None:
    words = TOKENIZERS["word"]
    ids = words.encode("the donkey  the\nthe zebra quagga")
    the = ids[0]
    assert [the, the, the] == [ids[0], ids[2], ids[4]]
    assert ids[3] == words.paragraph_id
    assert ids[5:] == [words.unknown_id, words.unknown_id]  # two unknown words are two tokens


def test_characters_are_one_piece_each() -> None:
    characters = TOKENIZERS["char"]
    assert len(characters.encode("the fox")) == 7
    assert characters.decode(characters.encode(TEXT)) == TEXT
    assert characters.encode("日本") == [characters.unknown_id] * 2


def test_words_seen_too_seldom_stay_unknown() -> None:
    words = Tokenizer.train(["a b c a\nb a", "c d a"], vocab_size=1000, kind="word", min_count=2)
    assert words.decode(words.encode("a b c")) == " a b c"
    assert words.encode("d") == [words.unknown_id]
    assert words.vocab_size == 6 + 3


def test_every_word_of_a_long_text_is_known() -> None:
    lines = "\n".join(f"word{number % 500} and so on" for number in range(400_000)) + "\nat the very end\n"
    words = Tokenizer.train([lines], vocab_size=10_000, kind="word")
    assert words.unknown_id not in words.encode("at the very end")
    assert words.vocab_size == 6 + 500 + 7


def test_all_of_an_endless_line_without_spaces_is_read() -> None:
    text = "".join(chr(0x4E00 + number % 6000) for number in range(30_000))
    characters = Tokenizer.train([text], vocab_size=10_000, kind="char")
    assert characters.unknown_id not in characters.encode(text)


def test_a_size_that_no_vocabulary_can_have_is_refused() -> None:
    with pytest.raises(CorpusError, match="cannot learn a vocabulary of 99999999999 pieces"):
        Tokenizer.train([TEXT], vocab_size=99_999_999_999)
