"""Makes checkpoints: reads books, trains language models, measures them. Run as `python -m trainer`."""
