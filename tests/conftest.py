"""Fixtures that every part of the project may ask for, and what holds for every test.

PyTorch gets one thread, here and in every process a test starts: the models are tiny, and a thread that waits for
another on a loaded machine costs many times what it saves. Hypothesis draws the same examples in every run, so that no
change is let in or kept out by luck; `pytest --hypothesis-profile=default` looks further.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch

import hypothesis

from tests.fixtures.checkpoints import rough_checkpoint, tiny, tiny_checkpoint
from tests.fixtures.databases import database_settings, empty_database, postgres_server
from tests.fixtures.ray_cluster import ray_cluster, ray_nodes

__all__ = [
    "database_settings",
    "empty_database",
    "postgres_server",
    "ray_cluster",
    "ray_nodes",
    "rough_checkpoint",
    "tiny",
    "tiny_checkpoint",
]

hypothesis.settings.load_profile("ci")
