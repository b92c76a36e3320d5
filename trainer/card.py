"""The model card: what a checkpoint was trained on, how, how good it is and what it cannot do."""

from typing import Any


def model_card(name: str, facts: dict[str, Any]) -> str:
    """Markdown for the README.md of a checkpoint."""
    corpus = facts["corpus"]
    rows = "\n".join(f"| {part} | {c['tokens']:,} | {c['words']:,} | {c['bytes']:,} |" for part, c in corpus.items())
    valid, plan = facts["valid"], facts["plan"]
    return f"""# {name}

A recurrent language model of {facts["parameters"]:,} weights, trained from nothing on the books below.

## Data

| part | tokens | words | bytes |
| --- | ---: | ---: | ---: |
{rows}

## Training

`{facts["command"]}`

{facts["seconds"] / 60:.0f} minutes, {facts["steps"]:,} steps of {plan["lanes"]} lanes x {plan["bptt"]} tokens,
{facts["tokens"]:,} tokens in all, seed {facts["seed"]}.

## Results

Validation, from fresh states: {valid["loss"]:.4f} nats a token, {valid["bits_per_byte"]:.4f} bits a byte.

## Limits

It writes in the manner of its books and knows nothing else: no facts, no instructions, no present day. It loses the
thread of a plot within a page, and it repeats what those books took for granted in their time.
"""
