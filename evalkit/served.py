"""Models behind a server: how one is named, `URL#MODEL`, and what identifies its answers.

`URL` is the server's base address as its clients take it (`http://127.0.0.1:8000/v1`), `MODEL` the name that the server
gives the model. What the server really runs cannot be seen from outside: address, name and an optional label of the
user's are all the identity there is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from evalkit.errors import CheckpointError
from evalkit.weight_urls import is_weights_url

if TYPE_CHECKING:
    from evalkit.types import CheckpointRef, ModelCard

SERVED_PREFIXES: Final = ("http://", "https://")
ANY_SERVER: Final = "http://"
"""What the card of an adapter for servers names as its checkpoint: the user must say which."""

_FORM: Final = (
    "Give --checkpoint URL#MODEL, for example --checkpoint http://127.0.0.1:8000/v1#Qwen/Qwen3-VL-2B-Instruct."
)
_LABEL = re.compile(r"[\w.:/+-]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model of a server."""

    url: str
    """Base address, without a slash at its end, user name, query or fragment."""
    model: str
    """As the server names it."""

    @property
    def digest(self) -> str:
        """What stands for the content of weights that nobody here can see."""
        return f"served:{self.url}#{self.model}"


def is_served(source: str) -> bool:
    """Whether a checkpoint's source means a server, and not a file of weights at a web address."""
    return source.lower().startswith(SERVED_PREFIXES) and not is_weights_url(source)


def read_served(source: str) -> ServedModel:
    """Take `URL#MODEL` apart.

    >>> read_served("HTTP://Localhost:8000/v1/#org/name").digest
    'served:http://localhost:8000/v1#org/name'

    Raises:
        CheckpointError: No server, no model, or a credential in the address. The message repeats no credential.
    """
    if not is_served(source):
        raise CheckpointError(f"The checkpoint {source} is not a model behind a server.", _FORM)
    if source.lower() in SERVED_PREFIXES:
        raise CheckpointError("A model behind a server has no default checkpoint.", _FORM)
    address, _, model = source.partition("#")
    if "@" in address or "?" in address:
        raise CheckpointError(
            "The address of the server holds a user name or a query, which may be credentials.",
            "Take it out: the API key is read from the environment variable EVALKIT_OPENAI_API_KEY alone.",
        )
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is no number, or a malformed IPv6 address
        host = port = None
    if not host or not model.strip() or model != model.strip() or not source.isprintable() or " " in address:
        shown = "" if "@" in source else f" {source!r}"  # what stands before an @ may be a password
        raise CheckpointError(f"The checkpoint{shown} does not name a server and one of its models.", _FORM)
    name = f"[{host}]" if ":" in host else host
    return ServedModel(
        url=f"{parts.scheme.lower()}://{name}{f':{port}' if port else ''}{parts.path.rstrip('/')}", model=model
    )


def served_digest(ref: CheckpointRef) -> str:
    """The identity of a served model: address, name and, where the user gives one by `--revision`, a label.

    Raises:
        CheckpointError: The source is malformed, or the label is.
    """
    digest = read_served(ref.source).digest
    if ref.revision is None:
        return digest
    if not _LABEL.fullmatch(ref.revision):
        raise CheckpointError(
            f"The revision {ref.revision!r} of a served model is a label: up to 128 letters, digits and . : / + - _",
            "Give another --revision, or none.",
        )
    return f"{digest}@{ref.revision}"


def check_source(card: ModelCard, ref: CheckpointRef) -> None:
    """Refuse a server for a model that runs here, the reverse, and several checkpoints for one network.

    Before anything is looked up or downloaded.

    Raises:
        CheckpointError: The checkpoint is not of the kind that the adapter takes.
    """
    takes_served = any(is_served(known.source) for variant in card.variants for known in variant.checkpoints.values())
    if takes_served and not is_served(ref.source):
        raise CheckpointError(
            f"Model {card.name!r} is asked over a server, and {ref.source} is not the address of one.", _FORM
        )
    if is_served(ref.source) and not takes_served:
        raise CheckpointError(
            f"Model {card.name!r} runs on this machine: its checkpoint cannot be the address of a server.",
            "Name a hub id, a local folder or a file of weights with --checkpoint, or choose --model openai.",
        )
    takes_several = any("," in known.source for variant in card.variants for known in variant.checkpoints.values())
    local = not is_served(ref.source) and not is_weights_url(ref.source)
    if local and "," in ref.source and not takes_several and not Path(ref.source).expanduser().exists():
        raise CheckpointError(
            f"Model {card.name!r} is loaded from one checkpoint, and {ref.source} names several.",
            "Name one with --checkpoint.",
        )
