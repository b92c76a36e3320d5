"""A comparison as people read it: one self-contained HTML file, the same in Markdown, and the learning curves.

Knows nothing of training: it is given the stages' figures. What the figures say is said in sentences that are made
from them, each with its numbers, so that no sentence can outlive its table.
"""

import io
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
from matplotlib.figure import Figure

from .floors import CLOSED
from .tokens import bounded_exp, perplexity_text

Json = dict[str, Any]

TEMPLATES = Path(__file__).parent / "templates"
_Columns = tuple[tuple[str, Callable[[Json], str]], ...]
_QUALITY: _Columns = (
    ("preset", lambda run: str(run["name"])),
    ("train ppl", lambda run: _perplexity(run["scores"]["train"])),
    ("valid ppl", lambda run: _perplexity(run["scores"]["valid"])),
    ("test ppl", lambda run: _perplexity(run["scores"]["test"])),
    ("train bits/byte", lambda run: f"{run['scores']['train']['bits_per_byte']:.3f}"),
    ("valid bits/byte", lambda run: f"{run['scores']['valid']['bits_per_byte']:.3f}"),
    ("test bits/byte", lambda run: f"{run['scores']['test']['bits_per_byte']:.3f}"),
)
_CLOSED: _Columns = (
    ("unknown words in test", lambda run: f"{run['scores']['test']['oov_rate']:.2%}"),
    ("test ppl without them", lambda run: perplexity_text(run["scores"]["test"]["word_perplexity_without_oov"])),
)
_KINDS = {"static": "as it is", "cache": "+ cache", "dynamic": "+ dynamic", "cache_and_dynamic": "+ both"}
_COST: _Columns = (
    ("preset", lambda run: str(run["name"])),
    ("architecture", lambda run: str(run["train"]["architecture"])),
    ("parameters", lambda run: f"{run['train']['parameters']:,}"),
    ("processor min", lambda run: f"{run['train']['seconds'] / 60:.1f}"),
    ("wall min", lambda run: f"{run['train']['wall_s'] / 60:.1f}"),
    ("tokens/s", lambda run: f"{run['train']['tokens'] / run['train']['seconds']:,.0f}"),
    ("epochs", lambda run: f"{run['train']['tokens'] / run['train']['train_tokens']:.1f}"),
    ("writes tokens/s, 1 stream", lambda run: f"{run['decode']['1']:,.0f}"),
    ("writes tokens/s, 64 streams", lambda run: f"{run['decode']['64']:,.0f}"),
)
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_FEW_EPOCHS = 3
_NOVELTY = ("4", "6", "8", "10", "12")


def write_report(title: str, results: Json, folder: Path) -> list[Path]:
    """Write report.html, report.md and their pictures into `folder`; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "bars": bars_svg(results),
        "curves-time": curves_svg(results, "seconds"),
        "curves-tokens": curves_svg(results, "tokens"),
    }
    facts = {
        "title": title,
        "plan": results["plan"],
        "runs": results["runs"],
        "quality": quality_table(results),
        "cost": cost_table(results),
        "memory": memory_table(results),
        "floors": floors_table(results),
        "novelty": novelty_table(results),
        "summary": summary(results),
        "analysis": analysis(results),
        "pictures": pictures,
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    written = {f"{name}.svg": svg for name, svg in pictures.items()}
    written |= {name: environment.get_template(name).render(facts) for name in ("report.md", "report.html")}
    for name, content in written.items():
        (folder / name).write_text(content, encoding="utf-8")
    return [folder / name for name in written]


def quality_table(results: Json) -> list[list[str]]:
    """Return head and rows of how well each run predicts; the best on the test text first, those to come last."""
    return _table(_ranked(results), _QUALITY + (_CLOSED if any(map(_is_closed, results["runs"])) else ()))


def cost_table(results: Json) -> list[list[str]]:
    """Return head and rows of what each run is and takes, in the same order."""
    return _table(_ranked(results), _COST)


def memory_table(results: Json) -> list[list[str]]:
    """Return head and rows of what reading the test text as it goes is worth; nothing where it was not measured."""
    measured = [run for run in _ranked(results) if "memory" in run]
    head = ["preset", *(f"{name}, {unit}" for unit in ("ppl", "bits/byte") for name in _KINDS.values())]
    rows = [
        [
            run["name"],
            *(_perplexity(run["memory"][kind]) for kind in _KINDS),
            *(f"{run['memory'][kind]['bits_per_byte']:.3f}" for kind in _KINDS),
        ]
        for run in measured
    ]
    return [head, *rows] if rows else []


def _table(runs: Sequence[Json], columns: _Columns) -> list[list[str]]:
    """Fill the columns; a figure that is not there yet is a dash."""
    rows = [[name for name, _ in columns]]
    for run in runs:
        row = []
        for _, cell in columns:
            try:
                row.append(cell(run))
            except KeyError:
                row.append("–")
        rows.append(row)
    return rows


def _ranked(results: Json) -> list[Json]:
    """Best first; closed vocabularies after the others, with which they do not compare; last what was not measured."""

    def rank(run: Json) -> tuple[bool, float]:
        return (_is_closed(run), float(run["scores"]["test"]["bits_per_byte"])) if "scores" in run else (True, math.inf)

    return sorted(results["runs"], key=rank)


def _is_closed(run: Json) -> bool:
    return "oov_rate" in run.get("scores", {}).get("test", {})


def floors_table(results: Json) -> list[list[str]]:
    """Return head and rows of the floors; nothing where they were not measured."""
    floors = results.get("floors")
    if not floors:
        return []
    head = ["floor", "valid ppl", "test ppl", "valid bits/byte", "test bits/byte"]
    return [
        head,
        *(
            [
                name,
                *(_perplexity(floors[part][name]) for part in ("valid", "test")),
                *(f"{floors[part][name]['bits_per_byte']:.3f}" for part in ("valid", "test")),
            ]
            for name in floors["test"]
        ),
    ]


def novelty_table(results: Json) -> list[list[str]]:
    """Return head and rows of the texts' figures, human text last."""
    head = [
        "text",
        "distinct-1",
        "distinct-2",
        "distinct-3",
        "repeated 4-grams",
        "self-BLEU",
        "new words",
        "surprise, bits/byte",
    ]
    head += [f"copied {length}-grams" for length in _NOVELTY] + ["longest copy, words"]
    measured = [run for run in results["runs"] if "statistics" in run]
    rows = [[run["name"], *_text_figures(run["statistics"]["model"])] for run in measured]
    if measured:
        human = [*_text_figures(measured[0]["statistics"]["human"])]
        human[6] = "–"  # each model has its own surprise at human text
        rows.append(["human", *human])
    return [head, *rows] if rows else []


def summary(results: Json) -> list[str]:
    """Say in two or three sentences who wins, by how much, and what is still missing."""
    ranked = [run for run in _ranked(results) if "scores" in run]
    if not ranked:
        return ["No run has been measured yet.", *_missing(results["runs"])]
    return [_ranking(ranked), *_better_floors(ranked[0], results.get("floors", {})), *_missing(results["runs"])]


def analysis(results: Json) -> dict[str, list[str]]:
    """Say by subject what the figures say: how each run fits, the gap from validation to test, memory, copying."""
    ranked = [run for run in _ranked(results) if "scores" in run]
    subjects = {
        "Fitting": [_fitting(run) for run in ranked],
        "From validation to test": _gaps(ranked, results.get("floors", {})) if ranked else [],
        "Memory at test time": [_memory_sentence(run) for run in ranked if "memory" in run],
        "Copying": [_copying(run) for run in ranked if "statistics" in run],
    }
    return {subject: sentences for subject, sentences in subjects.items() if sentences}


def bars_svg(results: Json) -> str:
    """Draw what each run and each floor needs for the test text, as SVG."""
    bars = [
        (run["name"], run["scores"]["test"]["bits_per_byte"], _colour(results, run["name"]))
        for run in results["runs"]
        if "scores" in run
    ]
    bars += [
        (name, floor["bits_per_byte"], "#bbb") for name, floor in results.get("floors", {}).get("test", {}).items()
    ]
    bars.sort(key=lambda bar: -float(bar[1]))
    figure = Figure(figsize=(7.5, 0.6 + 0.35 * max(1, len(bars))), layout="constrained")
    axes = figure.subplots()
    names, values, colours = zip(*bars, strict=True) if bars else ((), (), ())
    labels = axes.barh(names, values, color=colours)
    axes.bar_label(labels, fmt="%.3f", padding=3)
    axes.margins(x=0.1)
    axes.set_xlabel("bits for each byte of test text: shorter is better")
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def curves_svg(results: Json, axis: str) -> str:
    """Draw validation bits a byte over processor minutes ("seconds") or tokens, as SVG."""
    figure = Figure(figsize=(7.5, 4), layout="constrained")
    axes = figure.subplots()
    scale = 60 if axis == "seconds" else 1e6
    curves = {run["name"]: run["train"]["history"] for run in results["runs"] if run.get("train", {}).get("history")}
    if curves:
        points = [point["valid_bits_per_byte"] for history in curves.values() for point in history]
        ends = {name: history[-1]["valid_bits_per_byte"] for name, history in curves.items()}
        # beside a run's first validations, and all of a poor run's, nothing else could be told apart
        highest = min(max(points), max(1.3 * min(points), statistics.median(ends.values())))
        for name, history in curves.items():
            x, y = [point[axis] / scale for point in history], [point["valid_bits_per_byte"] for point in history]
            label = name if ends[name] <= highest else f"{name} (ends at {ends[name]:.2f})"
            axes.plot(x, y, marker=".", label=label, color=_colour(results, name))
        axes.set_ylim(min(points) - 0.02, highest + 0.02)
        axes.legend()
    axes.set_xlabel("processor minutes a thread" if axis == "seconds" else "million tokens read")
    axes.set_ylabel("validation, bits a byte")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    content = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "fablewright", "svg.fonttype": "none"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()[content.getvalue().index("<svg") :]


def _colour(results: Json, name: str) -> str:
    """One colour a run, the same in every picture (Okabe and Ito 2008: told apart by the colour-blind too)."""
    names = [run["name"] for run in results["runs"]]
    return _COLOURS[names.index(name) % len(_COLOURS)]


def _better_floors(best: Json, floors: Json) -> list[str]:
    """Name the simple methods that no run has beaten."""
    lowest = best["scores"]["test"]["bits_per_byte"]
    named = [f"{name} ({bits:.3f})" for name, bits in _comparable(floors, best).items() if bits < lowest]
    return [f"Simple methods predict them better still: {', '.join(named)}."] if named else []


def _comparable(floors: Json, best: Json) -> dict[str, float]:
    """What simple methods make of the test text, in bits a byte; those with as open a vocabulary as the best run."""
    figures = floors.get("test", {}).items()
    return {name: floor["bits_per_byte"] for name, floor in figures if name.endswith(CLOSED) == _is_closed(best)}


def _missing(runs: Sequence[Json]) -> list[str]:
    sentences = [f"{run['name']} failed: {run['failure']['message']}." for run in runs if "failure" in run]
    rest = [run for run in runs if "failure" not in run and "scores" not in run]
    for status, names in (
        ("not run yet", [run["name"] for run in rest if "train" not in run]),
        ("trained, but not measured yet", [run["name"] for run in rest if "train" in run]),
    ):
        if names:
            sentences.append(f"{status.capitalize()}: {', '.join(names)}.")
    return sentences


def _ranking(ranked: Sequence[Json]) -> str:
    best = ranked[0]
    sentence = (
        f"{best['name']} predicts the test books best: {best['scores']['test']['bits_per_byte']:.3f} bits a byte, "
        f"{_perplexity(best['scores']['test'])} word perplexity"
    )
    alike = [run for run in ranked[1:] if _is_closed(run) == _is_closed(best)]
    others = [
        f"{best['scores']['test']['word_perplexity'] / run['scores']['test']['word_perplexity']:.2f} of {run['name']}'s"
        for run in alike
    ]
    apart = [run["name"] for run in ranked if _is_closed(run) != _is_closed(best)]
    note = (
        f" Not compared, because a closed vocabulary leaves out what is hardest: {', '.join(apart)}." if apart else ""
    )
    return f"{sentence}{'; that is ' + ', '.join(others) if others else ''}.{note}"


def _fitting(run: Json) -> str:
    scores, train = run["scores"], run["train"]
    gap = scores["valid"]["bits_per_byte"] - scores["train"]["bits_per_byte"]
    last = train["history"][-3:]
    gain = last[0]["valid_bits_per_byte"] - last[-1]["valid_bits_per_byte"] if len(last) > 1 else 0.0
    epochs = train["tokens"] / train["train_tokens"]
    if gap > 0.3 and epochs >= _FEW_EPOCHS:
        fit = (
            "it has begun to learn its books by heart, and more regularisation or more books would help more than time"
        )
    elif gap > 0.1 and epochs < _FEW_EPOCHS:
        fit = "in so few passes it has learned nothing by heart, so the validation books are less like the rest"
    elif gap > 0.1:
        fit = "it fits its books better than new ones, as a network of this size must after so many passes"
    else:
        fit = "it hardly tells its books from new ones: a larger network or more time would still gain"
    trend = "still falling at the end" if gain > 0.005 else "rising at the end" if gain < -0.005 else "flat at the end"
    return (
        f"{run['name']} went over the training text {epochs:.1f} times; training and validation lie {gap:.3f} bits a "
        f"byte apart: {fit}. Its validation curve is {trend}."
    )


def _gaps(ranked: Sequence[Json], floors: Json) -> list[str]:
    """Where the gap from validation to test comes from: longer words, harder books, or what was fitted."""
    best = ranked[0]
    sentences = [
        f"{run['name']}: word perplexity {_perplexity(run['scores']['valid'])} on validation and "
        f"{_perplexity(run['scores']['test'])} on test text, {_gap(run):+.3f} bits a byte."
        for run in ranked
    ]
    lengths = [best["scores"][part]["bytes"] / best["scores"][part]["words"] for part in ("valid", "test")]
    expected = bounded_exp(math.log(best["scores"]["valid"]["word_perplexity"]) * lengths[1] / lengths[0])
    sentences.append(
        f"A word of the validation books, with the space after it, has {lengths[0]:.2f} bytes and one of the test "
        f"books {lengths[1]:.2f}: that alone, at equal bits a byte, would make {best['name']}'s perplexity of "
        f"{_perplexity(best['scores']['valid'])} into "
        f"{perplexity_text(expected)}."
    )
    return [*sentences, *_floor_sentences(best, floors)]


def _gap(run: Json) -> float:
    return float(run["scores"]["test"]["bits_per_byte"] - run["scores"]["valid"]["bits_per_byte"])


def _floor_sentences(best: Json, floors: Json) -> list[str]:
    comparable = _comparable(floors, best)
    if not comparable:
        return []
    name = min(comparable, key=comparable.__getitem__)
    lowest = comparable[name]
    ahead = lowest - best["scores"]["test"]["bits_per_byte"]
    gap = _gap(best)
    floor_gap = lowest - floors["valid"][name]["bits_per_byte"]
    cause = (
        "a method that chose nothing on the validation books shows a like gap, so it lies in the books"
        if abs(gap - floor_gap) < 0.02
        else "more than the books themselves explain: something was fitted to the validation books, or the test books "
        "lie farther from what it can carry over"
        if gap > floor_gap
        else "less than the books themselves would make it"
    )
    return [
        f"The same way {name}, which was never tuned on anything, goes {floor_gap:+.3f} bits a byte: {cause}.",
        f"{name} is the best of the simple methods with {lowest:.3f} bits a byte of test text; "
        f"{best['name']} is {abs(ahead):.3f} {'below' if ahead > 0 else 'above'} it.",
    ]


def _memory_sentence(run: Json) -> str:
    memory = run["memory"]
    static = memory["static"]["word_perplexity"]
    shifts = {name: memory[name]["word_perplexity"] / static - 1 for name in ("cache", "dynamic", "cache_and_dynamic")}
    return (
        f"Reading the test text as it goes changes {run['name']}'s word perplexity by {shifts['cache']:+.0%} with a "
        f"cache, {shifts['dynamic']:+.0%} with dynamic evaluation and {shifts['cache_and_dynamic']:+.0%} with both."
    )


def _copying(run: Json) -> str:
    model, human = run["statistics"]["model"], run["statistics"]["human"]
    return (
        f"Of {run['name']}'s runs of eight words {model['copied']['8']:.1%} stand in the training books, of new human "
        f"text {human['copied']['8']:.1%}; its longest copied run is {model['longest_run']} words, theirs "
        f"{human['longest_run']}."
    )


def _text_figures(statistics: Json) -> list[str]:
    surprise = statistics["mean_surprise"]
    return [
        *(f"{statistics['distinct'][length]:.3f}" for length in ("1", "2", "3")),
        f"{statistics['repeated_4grams']:.2%}",
        f"{statistics['self_bleu']:.3f}",
        f"{statistics['new_words']:.2%}",
        "–" if surprise is None else f"{surprise:.3f}",
        *(f"{statistics['copied'][length]:.2%}" for length in _NOVELTY),
        str(statistics["longest_run"]),
    ]


def _perplexity(figures: Json) -> str:
    return perplexity_text(figures["word_perplexity"])
