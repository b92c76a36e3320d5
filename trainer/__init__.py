"""Makes checkpoints: reads text, trains, evaluates, compares. Nothing that serves depends on it."""
