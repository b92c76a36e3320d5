"""Option types that several commands share; Discord itself holds people to the ranges."""

from discord import app_commands

from core.requests import RANGES, SEED_RANGE

HIGH = {name: float(bounds.high) for name, bounds in RANGES.items()}

# What these let through and core does not (a pace close to 0), core refuses in words.
Temperature = app_commands.Range[float, 0.0, HIGH["temperature"]]
TopP = app_commands.Range[float, 0.01, HIGH["top_p"]]
TopK = app_commands.Range[int, 0, int(HIGH["top_k"])]
MinP = app_commands.Range[float, 0.0, HIGH["min_p"]]
RepetitionPenalty = app_commands.Range[float, 1.0, HIGH["repetition_penalty"]]
CacheStrength = app_commands.Range[float, 0.0, HIGH["cache_strength"]]
Pace = app_commands.Range[float, 0.0, HIGH["pace"]]
Seed = app_commands.Range[int, 0, SEED_RANGE - 1]
