"""Chat completions as OpenAI's protocol has them: what a request says, and what an answer means. Sends nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from evalkit.errors import CapabilityError, DataError, ModelOutputError
from evalkit.types import Decoding, Generation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evalkit.types import GenerateRequest

SEED: Final = 0
_FINISHED: Final[dict[object, Literal["stop", "length", "filtered"]]] = {
    "stop": "stop",
    "length": "length",
    # what some servers say for the same
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "content_filter": "filtered",  # withheld, wholly or from here on: the text as it came, and it is counted
}
_PLAIN: Final = Decoding(max_new_tokens=1)


def chat_payload(model: str, request: GenerateRequest[str]) -> dict[str, object]:
    """The body of a request; its images are data URLs and precede the first user text.

    Raises:
        CapabilityError: The decoding needs what the protocol does not have.
        DataError: The conversation does not end with the user's turn.
    """
    _refuse_unknown(request.decoding)
    if not request.turns or request.turns[-1].role != "user":
        raise DataError("A conversation must end with the user's turn.", "Add the question that is to be answered.")
    messages: list[dict[str, object]] = []
    images = request.images
    for turn in request.turns:
        if turn.role == "user" and images:
            messages.append({"role": "user", "content": _parts(images, turn.text)})
            images = ()
        else:
            messages.append({"role": turn.role, "content": turn.text})
    payload: dict[str, object] = {
        "model": model,
        "messages": messages,
        "max_tokens": request.decoding.max_new_tokens,
        "temperature": 0,
        "seed": SEED,
    }
    if request.decoding.stop:
        payload["stop"] = list(request.decoding.stop)
    return payload


def _parts(images: Sequence[str], text: str) -> list[dict[str, object]]:
    shown: list[dict[str, object]] = [{"type": "image_url", "image_url": {"url": url}} for url in images]
    return [*shown, {"type": "text", "text": text}] if text else shown


def _refuse_unknown(decoding: Decoding) -> None:
    """Refuse what would otherwise be left out in silence."""
    names = ("min_new_tokens", "num_beams", "length_penalty", "repetition_penalty")
    asked = [f"{name}={getattr(decoding, name)}" for name in names if getattr(decoding, name) != getattr(_PLAIN, name)]
    if asked:
        raise CapabilityError(
            f"openai decodes greedily: its protocol has no {', '.join(asked)}.",
            "Leave these options out, or choose a model that runs here.",
        )


def read_answer(body: bytes) -> Generation:
    """The text of a chat completion, as it came. `tokens` is 0 where the server does not count.

    Raises:
        ModelOutputError: The answer is not a chat completion, or ended in a way that says it is none.
    """
    answer = _parsed(body)
    choices = answer.get("choices") if isinstance(answer, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise ModelOutputError(f"The answer is not a chat completion: {shortened(body.decode(errors='replace'))!r}")
    text = message.get("content")
    if text is not None and not isinstance(text, str):
        raise ModelOutputError(f"The answer's content is not text: {shortened(str(text))!r}")
    finish = choice.get("finish_reason")
    if not isinstance(finish, str) or finish not in _FINISHED:
        raise ModelOutputError(f"The answer ended for the reason {finish!r}, which is neither stop nor length.")
    usage = answer.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    counted = tokens if isinstance(tokens, int) and tokens >= 0 else 0
    return Generation(text=text or "", finish=_FINISHED[finish], tokens=counted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a server says of a request it does not answer."""

    text: str
    code: str = ""

    @property
    def wants_other_limit(self) -> bool:
        """Whether `max_tokens` must be called `max_completion_tokens`."""
        return "max_completion_tokens" in self.text  # which was not sent

    @property
    def is_content_filter(self) -> bool:
        """Whether it is this prompt or image that the server will not answer, ever."""
        return self.code in ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation")

    @property
    def is_final(self) -> bool:
        """Whether waiting is of no use although the status says so: the account is used up."""
        return self.code in ("insufficient_quota", "billing_hard_limit_reached")


def read_refusal(body: bytes) -> Refusal:
    """The message in one of the forms that servers use; the body itself where it is in none."""
    try:
        answer = _parsed(body)
    except ModelOutputError:
        return Refusal(text=body.decode(errors="replace"))
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    if not isinstance(error, dict):
        return Refusal(text=str(error))
    text = error.get("message") or error.get("detail") or error
    return Refusal(text=str(text), code=str(error.get("code") or ""))


def model_names(body: bytes) -> list[str]:
    """The ids in an answer of `/models`; empty where it is none."""
    try:
        answer = _parsed(body)
    except ModelOutputError:
        return []
    entries = answer.get("data") if isinstance(answer, dict) else None
    found = [entry.get("id") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return [name for name in found if isinstance(name, str)]


def shortened(text: str, most: int = 300) -> str:
    """One line, printable, at most so many characters."""
    line = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in " ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 3]}..."


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8
        start = shortened(body.decode(errors="replace"), 120)
        raise ModelOutputError(f"The answer is not JSON: {start!r}") from error


def renamed_limit(payload: Mapping[str, object]) -> dict[str, object]:
    """The same request for models that know `max_completion_tokens` only."""
    return {"max_completion_tokens" if name == "max_tokens" else name: value for name, value in payload.items()}
