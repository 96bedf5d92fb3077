"""A small world of colored shapes: scenes, pictures, and what people would say about them, all from a seed."""
