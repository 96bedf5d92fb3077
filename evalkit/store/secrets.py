"""Credentials are masked before anything is stored."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MASK = "***"
_PATTERNS = (
    # user:password@ and token@ in an address
    (re.compile(r"(?<=://)[^/\s]+(?=@)"), MASK),
    (re.compile(r"(?i)([?&][\w-]*(?:token|key|secret|password|signature|sig)=)[^&\s#]+"), rf"\g<1>{MASK}"),
    # hub tokens; API keys; GitHub's; AWS's. Boundary, length and digit keep `task-...` and `hf_weights` whole
    (re.compile(r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{16,}"), f"hf_{MASK}"),
    (re.compile(r"(?<![A-Za-z0-9])sk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16,}"), f"sk-{MASK}"),
    (re.compile(r"(?<![A-Za-z0-9])(gh[pousr]_|github_pat_)[A-Za-z0-9_]{20,}"), rf"\g<1>{MASK}"),
    (re.compile(r"(?<![A-Za-z0-9])(AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"), rf"\g<1>{MASK}"),
)
_SECRET_NAME = re.compile(
    r"(?i)(^|[_-])(api|auth|access|hf|hub|secret)[_-]?(token|key)$|password|passwd|credential|secret"
)


def mask(text: str) -> str:
    """The text without credentials in addresses, hub tokens and API keys.

    >>> mask("https://me:pass@host/org/name?token=abc")
    'https://***@host/org/name?token=***'
    >>> mask("results/hf_weights/task-0123456789abcdef0123")
    'results/hf_weights/task-0123456789abcdef0123'
    """
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def mask_all(texts: Mapping[str, str]) -> dict[str, str]:
    """A mapping's values masked; those whose name says that they are secret, wholly."""
    return {name: MASK if value and _SECRET_NAME.search(name) else mask(value) for name, value in texts.items()}
