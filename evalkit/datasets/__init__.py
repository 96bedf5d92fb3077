"""Official file formats to samples; download and verification."""
