"""Text to vocabulary ids and back, with SentencePiece underneath.

Every piece is turned into bytes once, when the tokenizer is loaded; decoding joins bytes and reads them as UTF-8. So
the whole decode and the incremental one agree by construction, no space is added or eaten at the seam of prompt and
continuation, and half a character is never shown.
"""

import codecs
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, tee
from pathlib import Path
from typing import Literal, Self, get_args

import sentencepiece

from .errors import CheckpointError, CorpusError, InputError

TokenizerKind = Literal["unigram", "bpe", "char", "word"]

PARAGRAPH = "\n\n"
NEWLINE = "\n"
_DOCUMENT = "<document>"
_UNKNOWN = "<unk>"
# SentencePiece writes a space as U+2581 and would read a literal one back as a space; NUL ends its strings.
_RESERVED = re.compile("[\u2581\0]")
_WORDS_AND_LINE_ENDS = re.compile(r"\n|\S+")
_CHARACTERS = re.compile(r"\n\n|.", re.DOTALL)
_LONGEST_SENTENCE_BYTES = 4096
SPECIAL_PIECES = 6  # of a vocabulary of words: unknown, document, and each line end with and without a space before


class Tokenizer:
    """A trained vocabulary.

    `unigram` and `bpe` are lossless on any text. `char` and `word` know a closed set and read the rest as `unknown_id`;
    `word` splits at white space and keeps line ends, each a piece, but of other white space only that there was some.
    """

    def __init__(self, processor: sentencepiece.SentencePieceProcessor) -> None:
        self._processor = processor
        self.vocab_size: int = processor.get_piece_size()
        self.unknown_id: int = processor.unk_id()
        self.document_id: int = processor.piece_to_id(_DOCUMENT)
        self.paragraph_id: int = processor.piece_to_id(PARAGRAPH)
        self.line_id: int = processor.piece_to_id(NEWLINE)
        if self.document_id == self.unknown_id or self.paragraph_id == self.unknown_id:
            raise CheckpointError(
                f"expected a tokenizer with the pieces {_DOCUMENT!r} and {PARAGRAPH!r}, found neither or one"
            )
        self._bytes = [self._piece_bytes(id) for id in range(self.vocab_size)]
        byte_ids = {self._bytes[id]: id for id in range(self.vocab_size) if processor.is_byte(id)}
        self.is_lossless = len(byte_ids) == 256
        self._reserved_ids = {
            c: [byte_ids[bytes([byte])] for byte in c.encode()] for c in "\u2581\0" if self.is_lossless
        }
        special = {_UNKNOWN, _DOCUMENT, PARAGRAPH}
        has_long_pieces = any(
            len(piece) > 1 for piece in map(self.piece, range(self.vocab_size)) if piece not in special
        )
        self.splits_words = has_long_pieces and not self.is_lossless
        if self.splits_words:
            self.paragraph_id = self.line_id
        self._closed_ids = {} if self.is_lossless else {self.decode([id]): id for id in range(self.vocab_size)}

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a `tokenizer.model` file. Raises CheckpointError if it is missing or damaged."""
        try:
            return cls.from_bytes(Path(path).read_bytes())
        except OSError as error:
            raise CheckpointError(f"cannot read the tokenizer {path}: {error.strerror}") from error
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Build a tokenizer from the bytes of its model. Raises CheckpointError if they are not one."""
        processor = sentencepiece.SentencePieceProcessor()
        try:
            processor.LoadFromSerializedProto(data)
        except RuntimeError as error:
            raise CheckpointError("expected a SentencePiece model, got something else or half of one") from error
        return cls(processor)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        vocab_size: int,
        kind: TokenizerKind = "unigram",
        min_count: int = 1,
        character_coverage: float = 0.9999,
    ) -> Self:
        """Learn a vocabulary of at most `vocab_size` pieces from texts. Raises CorpusError if they hold none.

        Of kind `word`, those seen fewer than `min_count` times stay unknown. Of kinds `unigram` and `bpe`, the rarest
        characters, so many that the others make up `character_coverage` of the text, are written as bytes.
        """
        if kind not in get_args(TokenizerKind):
            raise InputError(
                f"tokenizer kind must be one of {', '.join(get_args(TokenizerKind))}, got {kind!r}", "kind"
            )
        is_open = kind in ("unigram", "bpe")
        sentences = _sentences(texts)
        if kind == "word":
            sentences = ("".join(f" {word}" for word in sentence.split()) for sentence in sentences)
            if min_count > 1:
                sentences, counted = tee(sentences)
                counts = Counter(word for sentence in counted for word in sentence.split())
                vocab_size = min(vocab_size, SPECIAL_PIECES + sum(count >= min_count for count in counts.values()))
        first = next(sentences, None)
        if first is None:
            raise CorpusError("expected text to learn a vocabulary from, got none")
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=chain([first], sentences),
                model_writer=model,
                model_type=kind,
                vocab_size=vocab_size,
                hard_vocab_limit=False,
                character_coverage=character_coverage if is_open else 1.0,
                required_chars="\u2581",  # or a text without spaces would leave none to write them with
                byte_fallback=is_open,
                normalization_rule_name="identity",
                add_dummy_prefix=False,
                remove_extra_whitespaces=False,
                user_defined_symbols=[PARAGRAPH, NEWLINE],
                unk_id=0,
                unk_piece=_UNKNOWN,
                unk_surface=_UNKNOWN,
                bos_id=1,
                bos_piece=_DOCUMENT,
                eos_id=-1,
                pad_id=-1,
                max_sentence_length=4 * _LONGEST_SENTENCE_BYTES,
                input_sentence_size=400_000 if is_open else 0,  # 0: a closed vocabulary counts all
                shuffle_input_sentence=True,
                num_threads=1,
                minloglevel=2,
            )
        except (RuntimeError, OSError, ValueError) as error:  # ValueError: a size beyond 32 bits
            raise CorpusError(f"cannot learn a vocabulary of {vocab_size} pieces from this text: {error}") from error
        return cls.from_bytes(model.getvalue())

    def to_bytes(self) -> bytes:
        """The content of a `tokenizer.model` file."""
        return bytes(self._processor.serialized_model_proto())

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without `document_id`. Raises InputError on lone surrogates, which no UTF-8 text holds."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"text must be valid Unicode, got a lone surrogate at character {error.start}") from error
        if not self.is_lossless:
            return self._encode_closed(text)
        ids: list[int] = []
        end = 0
        for match in _RESERVED.finditer(text):
            ids += self._encode_plain(text[end : match.start()])
            ids += self._reserved_ids[match.group()]
            end = match.end()
        return ids + self._encode_plain(text[end:])

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids. `document_id` has none; bytes that are no UTF-8 come out as U+FFFD."""
        return b"".join(self._bytes[id] for id in ids).decode("utf-8", "replace")

    def encode_prompt(self, prompt: str) -> tuple[list[int], bool]:
        """Ids of a text to write on, and whether it ended in a space that the first new token must bring along.

        A space belongs to the word that follows it: pieces begin with one. A model that has read a lone space has to
        go on in a way that it never saw; so that space is left out here, and the first token is chosen among those
        that begin with it ("token healing").
        """
        if len(prompt) > 1 and prompt[-1] == " " and not prompt[-2].isspace():
            return self.encode(prompt[:-1]), True
        return self.encode(prompt), False

    @cached_property
    def spaced_ids(self) -> list[int]:
        """The ids whose text begins with a space."""
        return [id for id, data in enumerate(self._bytes) if data.startswith(b" ")]

    @property
    def unwritable_ids(self) -> list[int]:
        """The ids that a model may read but never write: `<unk>`, where a closed vocabulary has need of it."""
        return [] if self.is_lossless else [self.unknown_id]

    def piece(self, id: int) -> str:
        """One id as people read it: its text, `<document>`, or `<0xE2>` for a lone byte."""
        return str(self._processor.id_to_piece(id)).replace("\u2581", " ")

    def piece_bytes(self, id: int) -> bytes:
        """The UTF-8 bytes that an id stands for; empty for `document_id`."""
        return self._bytes[id]

    def _encode_plain(self, text: str) -> list[int]:
        return list(self._processor.encode(text)) if text else []

    def _encode_closed(self, text: str) -> list[int]:
        """Look units up one by one: SentencePiece would join neighbouring unknown ones into one."""
        if self.splits_words:
            units = [unit if unit == NEWLINE else f" {unit}" for unit in _WORDS_AND_LINE_ENDS.findall(text)]
        else:
            units = _CHARACTERS.findall(text)
        return [self._closed_ids.get(unit, self.unknown_id) for unit in units]

    def _piece_bytes(self, id: int) -> bytes:
        if self._processor.is_control(id):
            return b""
        piece = self._processor.id_to_piece(id)
        if self._processor.is_byte(id):
            return bytes([int(piece[3:5], 16)])  # "<0xE2>"
        return str(piece).replace("\u2581", " ").encode()


class IncrementalDecoder:
    """Turns a stream of ids into text, holding back the bytes of an unfinished character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        """The text that this id completes; "" while a character is unfinished."""
        return self._decoder.decode(self.tokenizer.piece_bytes(id))

    def push_all(self, ids: Iterable[int]) -> str:
        """The text that these ids complete."""
        return self._decoder.decode(b"".join(map(self.tokenizer.piece_bytes, ids)))

    def peek(self, id: int, *, is_last: bool = False) -> str:
        """The text that this id would complete; where it `is_last`, U+FFFD stands for an unfinished character."""
        if id == self.tokenizer.document_id:
            return ""
        unfinished, _ = self._decoder.getstate()
        return codecs.utf_8_decode(unfinished + self.tokenizer.piece_bytes(id), "replace", is_last)[0]

    def flush(self) -> str:
        """What is left at the end: U+FFFD for an unfinished character, else ""."""
        return self._decoder.decode(b"", final=True)


def _sentences(texts: Iterable[str]) -> Iterator[str]:
    """Lines of the texts, cut at spaces where they are longer than SentencePiece's trainer likes."""
    for text in texts:
        for line in text.replace("\0", "").split("\n"):
            words: Sequence[str] = re.findall(rf" ?[^ ]{{1,{_LONGEST_SENTENCE_BYTES}}}| +", line)
            sentence, size = "", 0
            for word in words:
                if sentence and size + len(word) > _LONGEST_SENTENCE_BYTES // 4:
                    yield sentence
                    sentence, size = "", 0
                sentence += word
                size += len(word)
            if sentence:
                yield sentence
