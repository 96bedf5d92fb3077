"""An evalkit plugin as somebody else would write it."""
