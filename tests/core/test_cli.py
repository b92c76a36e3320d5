"""`python -m core` as people run it: real processes, a real (tiny) checkpoint, a real pipe."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from core.__main__ import _show_json, _show_text
from core.requests import Event, Finished, FinishReason, GenerationRequest, SamplingDefaults, sampling_params

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(tiny_checkpoint: Path, tmp_path: Path) -> dict[str, str]:
    return os.environ | {
        "FABLEWRIGHT_CHECKPOINT__FOLDERS": json.dumps([str(tiny_checkpoint.parent)]),
        "FABLEWRIGHT_CHECKPOINT__NAME": "",
        "FABLEWRIGHT_DATABASE__URL": f"sqlite:///{tmp_path}/log.sqlite3",
        "OMP_NUM_THREADS": "1",
        "FABLEWRIGHT_ENGINE__THREADS": "1",
    }


def run(environment: dict[str, str], *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "core", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, input=text, capture_output=True, text=True, check=False)


def test_text_goes_to_output_and_the_seed_aside(environment: dict[str, str]) -> None:
    done = run(environment, "Once upon a time", "--max-tokens", "12", "--temperature", "0.8", "--seed", "7")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "seed 7, checkpoint tiny" in done.stderr
    assert "12 tokens" in done.stderr


def test_json_lines_hold_every_event_and_the_same_text_as_a_pipe(environment: dict[str, str]) -> None:
    settings = ("--max-tokens", "12", "--seed", "7")
    lines = run(environment, "--json", *settings, text="Once upon a time").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["type"] for event in events[:2]] == ["started", "text"]
    assert events[0]["seed"] == 7
    assert (events[-1]["type"], events[-1]["reason"], events[-1]["completion_tokens"]) == ("finished", "length", 12)
    text = "".join(event["text"] for event in events if event["type"] == "text")
    assert run(environment, *settings, text="Once upon a time").stdout == text + "\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "-1"], "temperature must be in [0, 2], got -1.0"),
        (["--temperature", "nan"], "temperature must be in [0, 2], got nan"),
        (["--cache-strength", "2"], "cache_strength must be in [0, 1], got 2.0"),
        (["--max-tokens", "0"], "max_tokens must be a whole number of at least 1, got 0"),
        (["--checkpoint", "none"], "checkpoint must be one of tiny, got 'none'"),
    ],
)
def test_bad_input_is_named_in_one_line(environment: dict[str, str], arguments: list[str], message: str) -> None:
    done = run(environment, "Once", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {message}\n"


def test_a_missing_checkpoint_is_an_error_that_names_the_folder(environment: dict[str, str], tmp_path: Path) -> None:
    done = run(environment | {"FABLEWRIGHT_CHECKPOINT__FOLDERS": json.dumps([str(tmp_path)])}, "Once")
    assert done.stderr == f"error: expected a checkpoint in {tmp_path}, found none\n"


def test_ctrl_c_stops_cleanly(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "core", "Once", "--max-tokens", "4000", "--pace", "20"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, aside = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in aside
    assert "seed" in aside


def test_a_reader_that_has_seen_enough_ends_it_quietly(environment: dict[str, str]) -> None:
    command = f"{sys.executable} -m core Once --max-tokens 4000 --pace 200 | head -c 5"
    done = subprocess.run(command, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert len(done.stdout) == 5
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("reason", "status"), [("error", 1), ("length", 0)])
async def test_a_text_that_failed_is_a_failure(reason: FinishReason, status: int) -> None:
    async def events() -> AsyncGenerator[Event]:
        yield Finished(reason=reason, prompt_tokens=1, completion_tokens=0, time_to_first_token_s=None, duration_s=0.1)

    request = GenerationRequest(prompt="Once", sampling=sampling_params(SamplingDefaults()))
    assert await _show_text(events(), request) == status
    assert await _show_json(events()) == status
