"""A tiny real model on a text of our own: what tests use where others would use a mock. Trains in about two seconds."""

import codecs
from pathlib import Path

import torch
from torch.nn import functional

from core.checkpoint import CheckpointConfig, save_checkpoint
from core.models import build_model
from core.tokenizer import Tokenizer

TEXT = """\
Once upon a time there was a small grey donkey who lived at the edge of a wood. Every morning the donkey walked down \
the hill to the well, and every evening the donkey walked up the hill again.

"Where are you going?" asked the fox, who was sitting on the wall.

"To the well," said the donkey, "and then home again."

"You are always going to the well," said the fox. "Come with me to the sea instead."

The donkey had never seen the sea. It thought about the water, and the long road, and the wind — and then it said, \
"Yes, I will come."

So they went over the hill and through the wood, and the moon came up before them. In the wood they met an old woman \
who carried a lantern. "The sea is three days away," said the old woman, "but the road is kind to those who sing."

They sang until the stars were out. On the third day they came to the top of the last hill, and there was the sea, \
blue and green and very wide.

"It is a very big well," said the donkey.

The fox laughed and laughed. "It is the biggest well in the world," said the fox, "and nobody has ever seen the bottom."

They stayed until the evening. Then they walked home again, three days through the wood and over the hill, and they \
sang all the way. The end.
"""


def other_tokenizer() -> Tokenizer:
    """Return a tokenizer with as many pieces as the tiny checkpoint's, and all of them others."""
    return Tokenizer.train([codecs.encode(TEXT, "rot13")], vocab_size=480)


def make_tiny_checkpoint(path: Path, *, steps: int = 100) -> Path:
    """Train a two-layer AWD-LSTM (hidden 32, 480 pieces) on TEXT and save it at `path`."""
    torch.manual_seed(1)
    tokenizer = Tokenizer.train([TEXT], vocab_size=480)
    config = {
        "vocab_size": tokenizer.vocab_size,
        "document_id": tokenizer.document_id,
        "embedding_size": 24,
        "hidden_size": 32,
        "layers": 2,
        "input_dropout": 0.0,
        "embedding_dropout": 0.0,
        "hidden_dropout": 0.0,
        "output_dropout": 0.0,
        "weight_dropout": 0.0,
    }
    model = build_model("awd_lstm", config)
    counts = torch.bincount(torch.tensor(tokenizer.encode(TEXT)), minlength=tokenizer.vocab_size) + 1.0
    model.output_bias.data = (counts / counts.sum()).log()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    document = torch.tensor([tokenizer.document_id, *tokenizer.encode(TEXT), tokenizer.document_id])
    length = (len(document) - 1) // 16
    inputs = document[: 16 * length].view(16, length).t()  # (T, B): sixteen lanes, one window each
    targets = document[1 : 16 * length + 1].view(16, length).t()
    for _ in range(steps):
        logits, _ = model(inputs, model.init_state(16))
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    card = "# tiny\n\nA model for tests, trained on a page of our own text.\n"
    save_checkpoint(
        path,
        model=model,
        tokenizer=tokenizer,
        config=CheckpointConfig(architecture="awd_lstm", model=config),
        card=card,
    )
    return path
