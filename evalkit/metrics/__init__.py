"""Pure functions that turn answers into numbers: retrieval ranks, statistics."""
