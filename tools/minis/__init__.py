"""Trains the miniature checkpoints of the demo on the demo world; `python -m tools.minis --help` says how."""
