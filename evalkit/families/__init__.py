"""The shared flow of each kind of task."""
