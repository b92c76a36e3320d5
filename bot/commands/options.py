"""Option types that several commands share; Discord itself holds people to the ranges."""

from discord import app_commands

from core.requests import RANGES, SEED_RANGE

HOTTEST = float(RANGES["temperature"].high)

Temperature = app_commands.Range[float, 0.0, HOTTEST]
TopP = app_commands.Range[float, 0.01, 1.0]
Seed = app_commands.Range[int, 0, SEED_RANGE - 1]
