"""What models are put to use for outside of benchmarks: filtering captions, illustrating a text."""
