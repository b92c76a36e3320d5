"""Which settings a generation gets: asked now, asked for the story, the user's, the server's, config.toml's."""

from collections.abc import Mapping
from typing import Any

from core.errors import InputError
from core.requests import GenerationRequest, Limits, SamplingDefaults, sampling_params

from .replies import RefusedError
from .rules import ServerRules

USER_SETTINGS = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "cache_strength",
    "pace",
)
TOO_LONG = "This story is as long as one can be here. To go on, begin another one: copy its last part into /write."
SHOWN_AS = {"max_tokens": "length"}


def generation_request(
    prompt: str,
    *,
    defaults: SamplingDefaults,
    limits: Limits,
    pace: float,
    resolved: Mapping[str, Any],
    asked: Mapping[str, Any],
    rules: ServerRules,
) -> GenerationRequest:
    """Lay what was asked over what is set. Raises InputError out of range, RefusedError above the server's limit."""
    chosen = {name: value for name, value in asked.items() if value is not None}
    values = {name: value for name, value in resolved.items() if name in USER_SETTINGS} | chosen
    length = values.setdefault("max_tokens", min(defaults.max_tokens, rules.longest))
    if isinstance(length, int) and length > rules.longest:
        if "max_tokens" in chosen:
            raise RefusedError(f"length must be at most {rules.longest} here, got {length}. Choose a smaller one.")
        values["max_tokens"] = rules.longest
    pace = values.pop("pace", pace)
    request = GenerationRequest(prompt=prompt, sampling=sampling_params(defaults, **values), pace=pace)
    try:
        limits.check(request)
    except InputError as error:
        if error.field == "prompt":
            raise RefusedError(TOO_LONG) from error
        raise
    return request


def listing(values: Mapping[str, Any]) -> str:
    """Return those of a scope's values that shape a generation, as lines to read."""
    shown = {SHOWN_AS.get(name, name): value for name, value in values.items() if name in USER_SETTINGS}
    return "\n".join(f"- {name}: {value:g}" for name, value in shown.items())
