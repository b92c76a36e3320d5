"""A whole comparison on two pages of text: stages, resuming, a failing contender, and the report."""

import json
import re
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigError
from tests.tiny import TEXT
from trainer.compare import collect, compare, read_plan
from trainer.presets import load_preset
from trainer.report import analysis, curves_svg, summary

pytestmark = pytest.mark.timeout(600)  # each training is a process of its own

PLAN = """
title = "Two <small> contenders"
out = "{folder}/out"
work = "{folder}/work"
corpus = "{folder}/books"
valid = "{folder}/books/valid.txt"
test = "{folder}/books/test.txt"
minutes = 1
threads = 1
tune_tokens = 100
prompts = ["Once upon a time", "The fox & the"]
temperatures = [0.5, 1.0]
sample_tokens = 12
passages = 4
prompt_words = 5
passage_words = 12

[options] # all that a plan would choose is given: no training measures the machine first
steps = 3
vocab_size = 300
embedding_size = 16
hidden_size = 16
layers = 1
dropout = 0.1
lanes = 4
validations = 2

[[runs]]
name = "small"
preset = "fast"

[[runs]]
name = "textbook"
preset = "course"

[[runs]]
name = "broken"
preset = "fast"
options = {{ tokenizer = "telepathy" }}
"""


@pytest.fixture(scope="module")
def plan_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    (folder / "books").mkdir()
    (folder / "books" / "one.txt").write_text(TEXT)
    (folder / "books" / "valid.txt").write_text(TEXT.replace("donkey", "goose"))
    (folder / "books" / "test.txt").write_text(TEXT.replace("fox", "badger"))
    path = folder / "PLAN.toml"
    path.write_text(PLAN.format(folder=folder))
    return path


@pytest.fixture(scope="module")
def out(plan_path: Path) -> Path:
    assert compare(Namespace(plan=plan_path, report_only=False, only=None)) == 1  # one contender failed
    return plan_path.parent / "out"


def stage(out: Path, run: str, name: str) -> Any:
    return json.loads((out / run / "stages" / f"{name}.json").read_text())


def test_every_stage_leaves_its_figures(out: Path) -> None:
    for run in ("small", "textbook"):
        assert stage(out, run, "train")["steps"] == 3
        assert len(stage(out, run, "train")["history"]) == 2
        assert stage(out, run, "train")["wall_s"] > 0
        scores = stage(out, run, "scores")
        assert scores["test"]["words"] == len(TEXT.split())
        memory = stage(out, run, "memory")
        assert memory["static"]["bits_per_byte"] == pytest.approx(scores["test"]["bits_per_byte"], rel=1e-3)
        assert memory["cache"]["word_perplexity"] <= memory["static"]["word_perplexity"] * 1.01
        assert [len(texts) for texts in stage(out, run, "samples").values()] == [2, 2]
        assert stage(out, run, "statistics")["model"]["texts"] == 4
    assert stage(out, "textbook", "train")["architecture"] == "lstm"


def test_a_failing_contender_is_named_and_loses_nothing(out: Path) -> None:
    assert [path.stem for path in (out / "broken" / "stages").iterdir()] == ["failure"]
    report = (out / "report.md").read_text()
    assert re.search(r"broken failed: .*invalid choice: 'telepathy'", report)


def test_a_second_run_does_only_what_is_missing(plan_path: Path, out: Path) -> None:
    weights = out.parent / "work" / "small" / "checkpoint" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    before = stage(out, "small", "scores")
    (out / "small" / "stages" / "scores.json").unlink()
    compare(Namespace(plan=plan_path, report_only=False, only=None))
    assert stage(out, "small", "scores") == before
    assert weights.stat().st_mtime_ns == written


def test_the_report_is_one_file_that_loads_nothing(out: Path) -> None:
    html = (out / "report.html").read_text()
    assert html.count("<svg") == 3
    assert "Two &lt;small&gt; contenders" in html
    assert "The fox &amp; the" in html
    links = re.findall(r'(?:src|href)="([^"#][^"]*)"', html)
    assert links == []
    assert "@import" not in html
    assert "<script" not in html


def test_the_reports_tables_hold_every_run(out: Path) -> None:
    lines = (out / "report.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    quality, memory, cost = [row for row in rows if row[0] == "small"][:3]
    assert f"{stage(out, 'small', 'scores')['test']['bits_per_byte']:.3f}" in quality
    assert memory[-1] == f"{stage(out, 'small', 'memory')['cache_and_dynamic']['bits_per_byte']:.3f}"
    assert cost[1] == "awd_lstm"
    assert {"small", "textbook", "broken", "human", "xz, primed"} <= {row[0] for row in rows}


def test_a_report_can_be_written_from_what_is_there(plan_path: Path, out: Path) -> None:
    (out / "report.md").unlink()
    (out / "textbook" / "stages" / "memory.json").rename(out / "kept")
    assert compare(Namespace(plan=plan_path, report_only=True, only=None)) == 0
    (out / "kept").rename(out / "textbook" / "stages" / "memory.json")
    assert "–" in (out / "report.md").read_text()


def test_the_figures_alone_give_the_report_again(plan_path: Path, out: Path, tmp_path: Path) -> None:
    """A clone has neither the books nor the weights, and some contenders were never run."""
    shutil.copytree(out, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "textbook")
    (tmp_path / "out" / "small" / "stages" / "scores.json").unlink()
    plan = tmp_path / "PLAN.toml"
    plan.write_text(plan_path.read_text().replace(str(plan_path.parent), str(tmp_path)))
    assert compare(Namespace(plan=plan, report_only=True, only=None)) == 0
    report = (tmp_path / "out" / "report.md").read_text()
    assert "Not run yet: textbook." in report
    assert "Trained, but not measured yet: small." in report
    assert "broken failed:" in report
    assert sum(path.stat().st_size for path in out.rglob("*.json")) < 50_000


def test_a_report_is_written_of_texts_without_spaces(plan_path: Path, out: Path, tmp_path: Path) -> None:
    """Each is one word, and its perplexity as large as a number can be."""
    shutil.copytree(out, tmp_path / "out")
    for path in (tmp_path / "out").glob("*/stages/scores.json"):
        scores = json.loads(path.read_text())
        scores["valid"] |= {"words": 1, "bytes": 300, "word_perplexity": 1e300}
        scores["test"] |= {"words": 1, "bytes": 600, "word_perplexity": 1e300}
        path.write_text(json.dumps(scores))
    plan = tmp_path / "PLAN.toml"
    plan.write_text(plan_path.read_text().replace(str(plan_path.parent), str(tmp_path)))
    assert compare(Namespace(plan=plan, report_only=True, only=None)) == 0


def test_results_of_another_plan_are_not_taken_for_those_of_this_one(
    plan_path: Path, out: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "PLAN.toml"
    changed.write_text(plan_path.read_text().replace("minutes = 1", "minutes = 2"))
    with pytest.raises(ConfigError, match=r"small holds results of another plan: .*--minutes 1.0 .*--minutes 2.0"):
        compare(Namespace(plan=changed, report_only=True, only=None))


def test_a_run_that_was_planned_for_another_time_does_not_go_on(plan_path: Path, out: Path, tmp_path: Path) -> None:
    changed = tmp_path / "PLAN.toml"
    changed.write_text(plan_path.read_text().replace(str(out), str(tmp_path)).replace("minutes = 1", "minutes = 2"))
    with pytest.raises(ConfigError, match=r"work/small holds a run that began with 1 minutes but now has 2; delete"):
        compare(Namespace(plan=changed, report_only=False, only=None))


@pytest.mark.parametrize("given", [("threads = 1", "threads = 3"), ('"The fox & the"', '"The owl"')])
def test_results_measured_otherwise_are_not_taken_for_those_of_this_plan(
    plan_path: Path, out: Path, tmp_path: Path, given: tuple[str, str]
) -> None:
    changed = tmp_path / "PLAN.toml"
    changed.write_text(plan_path.read_text().replace(*given))
    with pytest.raises(ConfigError, match=r"holds results measured otherwise: (threads|prompts) was .* and is"):
        compare(Namespace(plan=changed, report_only=True, only=None))


def test_held_out_books_below_the_training_books_are_no_training_text(out: Path) -> None:
    scores = json.loads((out / "small" / "stages" / "scores.json").read_text())
    assert scores["train"]["words"] <= len(TEXT.split())
    floors = json.loads((out / "stages" / "floors.json").read_text())
    assert floors["test"]["xz, primed"]["bits_per_byte"] > 0.15  # 0.06 where it has read the text itself


def test_results_from_other_books_are_not_taken_for_those_of_these(plan_path: Path, out: Path, tmp_path: Path) -> None:
    changed = tmp_path / "PLAN.toml"
    changed.write_text(plan_path.read_text().replace("/test.txt", "/valid.txt"))
    with pytest.raises(ConfigError, match=r"holds results of another plan: .* or name another `out` and `work`"):
        compare(Namespace(plan=changed, report_only=False, only=None))


def test_a_poor_contender_does_not_press_the_others_together() -> None:
    def run(name: str, *bits: float) -> dict[str, Any]:
        points = [{"seconds": 60 * at, "valid_bits_per_byte": value} for at, value in enumerate(bits)]
        return {"name": name, "train": {"history": points}}

    svg = curves_svg({"runs": [run("good", 2.0, 1.0), run("middling", 3.0, 1.2), run("poor", 9.0, 7.0)]}, "seconds")
    labels = re.findall(r"<text[^>]*>([^<]+)</text>", svg)
    assert {"good", "middling", "poor (ends at 7.00)"} <= set(labels)
    assert "1.20" in labels
    assert "2.00" not in labels


def test_closed_vocabularies_are_not_ranked_with_open_ones() -> None:
    def run(name: str, bits: float, **closed: float) -> dict[str, Any]:
        return {"name": name, "scores": {"test": {"bits_per_byte": bits, "word_perplexity": 2.0**bits} | closed}}

    results = {"runs": [run("words", 1.0, oov_rate=0.1), run("pieces", 2.0), run("bytes", 3.0)]}
    first, *_ = summary(results)
    assert first.startswith("pieces predicts the test books best: 2.000 bits a byte")
    assert "0.50 of bytes's" in first
    assert first.endswith("Not compared, because a closed vocabulary leaves out what is hardest: words.")


def test_an_open_vocabulary_is_not_held_against_a_closed_floor() -> None:
    def scores(bits: float) -> dict[str, Any]:
        return {"bits_per_byte": bits, "word_perplexity": 2.0**bits, "bytes": 500, "words": 100}

    train = {"tokens": 10, "train_tokens": 10, "history": [{"valid_bits_per_byte": 2.0}]}
    run = {"name": "pieces", "train": train, "scores": {part: scores(2.0) for part in ("train", "valid", "test")}}
    floors = {part: {"5-gram, closed vocabulary": scores(1.0), "xz": scores(3.0)} for part in ("valid", "test")}
    sentences = analysis({"runs": [run], "floors": floors})["From validation to test"]
    assert sentences[-1].startswith("xz is the best of the simple methods with 3.000")
    assert not analysis({"runs": [run]})["From validation to test"][-1].startswith("xz")


def test_one_contender_can_be_run_alone(plan_path: Path, out: Path) -> None:
    (out / "small" / "stages" / "decode.json").unlink()
    (out / "textbook" / "stages" / "decode.json").rename(out / "kept")
    compare(Namespace(plan=plan_path, report_only=False, only=["small"]))
    assert (out / "small" / "stages" / "decode.json").exists()
    assert not (out / "textbook" / "stages" / "decode.json").exists()
    (out / "kept").rename(out / "textbook" / "stages" / "decode.json")


@pytest.mark.parametrize(
    ("old", "only", "message"),
    [
        ("/valid.txt", None, "expected a text file or a folder of them, found nothing: .*nowhere.txt"),
        ("", ["quick"], "--only must name runs of the plan, which has small, textbook, broken; got quick"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(
    plan_path: Path, tmp_path: Path, old: str, only: list[str] | None, message: str
) -> None:
    path = tmp_path / "PLAN.toml"
    path.write_text(plan_path.read_text().replace(old, "/nowhere.txt") if old else plan_path.read_text())
    with pytest.raises(ConfigError, match=message):
        compare(Namespace(plan=path, report_only=False, only=only))


def test_a_damaged_stage_is_named(plan_path: Path, out: Path) -> None:
    path = out / "small" / "stages" / "decode.json"
    whole = path.read_text()
    path.write_text("{")
    with pytest.raises(Exception, match=r"decode\.json: not valid JSON"):
        collect(read_plan(plan_path))
    path.write_text(whole)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'preset = "course"',
            'preset = "coarse"',
            "run textbook: preset must be one of .*course, fast, .* got 'coarse'",
        ),
        ("threads = 1", "thread = 1", "thread: extra inputs are not permitted"),
        ("minutes = 1", "minutes = 0", "minutes: input should be greater than 0"),
        ("title =", "title", "not valid TOML"),
        ("steps = 3", "minutes = 9", "options: .*minutes must be the same for all"),
        ('name = "textbook"', 'name = "small"', "names of runs must differ"),
        ("threads = 1", "threads = 1\nseeds = [1, 1]", "seeds must differ"),
        (
            "temperatures = [0.5, 1.0]",
            "temperatures = [7.0]",
            r"temperatures\.0: input should be less than or equal to 2",
        ),
    ],
)
def test_a_wrong_plan_is_refused_before_anything_runs(
    plan_path: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "PLAN.toml"
    path.write_text(plan_path.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=message):
        read_plan(path)


@pytest.mark.parametrize("name", ["compare.toml", "compare-48.toml", "wikitext.toml"])
def test_the_plans_that_come_with_the_trainer_are_sound(name: str) -> None:
    plan = read_plan(Path(__file__).parents[2] / "docs" / name)
    assert {run.preset for run in plan.runs} >= {"course", "fast"}


def test_results_of_a_preset_that_has_changed_are_refused(plan_path: Path, out: Path, tmp_path: Path) -> None:
    copy, stage = tmp_path / "out", Path("small", "stages", "train.json")
    shutil.copytree(out, copy)
    result = json.loads((copy / stage).read_text())
    assert result["preset_options"] == load_preset("fast")
    (copy / stage).write_text(json.dumps(result | {"preset_options": {"dropout": 0.9}}))
    changed = tmp_path / "PLAN.toml"
    changed.write_text(plan_path.read_text().replace(str(out), str(copy)))
    with pytest.raises(ConfigError, match=r"results of another plan: trained by `fast of \{'dropout': 0.9\}`"):
        compare(Namespace(plan=changed, report_only=True, only=None))
