"""evalkit: evaluate vision-language models, embedding and generative, by the official protocols."""

from __future__ import annotations

__version__ = "0.1.0"
