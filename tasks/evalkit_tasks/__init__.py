"""Task plugins: one file a benchmark, a card and how its samples are read."""
