"""What `--demo` runs on: a small generated world."""
