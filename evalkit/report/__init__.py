"""Tables of runs; reads the store only."""
