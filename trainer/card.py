"""The model card: what a checkpoint was trained on, how, how good it is and what it cannot do."""

from typing import Any

from .tokens import perplexity_text

_NAMES = {"train": "training", "valid": "validation", "test": "test", "pretrain": "pretraining"}


def model_card(name: str, facts: dict[str, Any]) -> str:
    """Markdown for the README.md of a checkpoint, from the facts that its config.json holds."""
    plan = facts["plan"]
    parts = [
        f"# {name}",
        f"A language model of {facts['parameters']:,} weights, {_start(facts)} on the books below.",
        "## Data",
        _data(facts["corpus"]),
        *_books(facts.get("books", {})),
        "## Training",
        f"    {facts['command']}",
        f"{facts['seconds'] / 60:.0f} minutes in {facts['processes']} process(es), {facts['steps']:,} steps of "
        f"{plan['lanes']} lanes x {plan['bptt']} tokens, {facts['tokens']:,} tokens up to here, seed {facts['seed']}.",
        *([facts["note"]] if "note" in facts else []),
        "## Results",
        _results(facts),
        *_unknown(facts),
        *_read_before(facts),
    ]
    if facts.get("sample"):
        parts += ["## Sample", *("> " + line for line in facts["sample"].split("\n\n"))]
    parts += [
        "## Limits",
        "It writes in the manner of its books and knows nothing else: no facts, no instructions, no present day. It\n"
        "loses the thread of a plot within a page, and it repeats what those books took for granted in their time.",
    ]
    return "\n\n".join(parts) + "\n"


def _start(facts: dict[str, Any]) -> str:
    if "start" not in facts:
        return "trained from nothing"
    start = facts["start"]
    if _learned(start) and _learned(start) == _learned(facts):
        return f"gone on from *{start['name']}*, which had learned from the same books, and trained"
    corpus = start.get("corpus", {})  # none where something else than this trainer made it
    read = sum(counts["bytes"] for part, counts in corpus.items() if part in ("train", "pretrain"))
    return f"gone on from *{start['name']}*, which had learned from {read / 1e6:.1f} MB of other text, and trained"


def _learned(facts: dict[str, Any]) -> set[str]:
    """Names of the books that a model learned from."""
    return {name for part in ("train", "pretrain") for name in facts.get("books", {}).get(part, [])}


def _data(corpus: dict[str, dict[str, int]]) -> str:
    rows = ["| part | tokens | words | bytes |", "| --- | ---: | ---: | ---: |"]
    rows += [f"| {_NAMES[part]} | {c['tokens']:,} | {c['words']:,} | {c['bytes']:,} |" for part, c in corpus.items()]
    return "\n".join(rows)


def _books(books: dict[str, list[str]]) -> list[str]:
    return [f"Books of the {_NAMES[part]} part: {', '.join(names)}." for part, names in books.items()]


def _unknown(facts: dict[str, Any]) -> list[str]:
    if not (rates := facts.get("oov_rates")):
        return []
    shares = ", ".join(f"{rate:.1%} of the {_NAMES[part]} tokens" for part, rate in rates.items())
    note = "They count as `<unk>`, which is easier to predict than what stands there."
    return [f"Not in its vocabulary: {shares}. {note}"]


def _read_before(facts: dict[str, Any]) -> list[str]:
    if not (names := facts.get("read_before")):
        return []
    start = facts["start"]["name"]
    return [f"*{start}* had read these held-out books, so it looks better here than it is: {', '.join(names)}."]


def _results(facts: dict[str, Any]) -> str:
    if "results" not in facts:
        valid = facts["valid"]
        return f"Validation so far: {valid['loss']:.4f} nats a token, {valid['bits_per_byte']:.4f} bits a byte."
    rows = [
        "| part | tokens read | bits a byte | perplexity a word | perplexity a token |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for part, figures in facts["results"].items():
        word, token = (perplexity_text(figures[f"{unit}_perplexity"]) for unit in ("word", "token"))
        rows.append(f"| {_NAMES[part]} | {figures['tokens']:,} | {figures['bits_per_byte']:.4f} | {word} | {token} |")
    return "\n".join([*rows, "", facts["results_method"]])
