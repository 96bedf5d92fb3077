"""Runs with samples, made by hand, for the tests of report pages."""

from __future__ import annotations

import io
import json
import random
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from PIL import Image

from evalkit.report.numbers import numbers_of
from evalkit.report.samplesets import ShownRun
from evalkit.types import (
    Counts,
    Failure,
    ImageRef,
    MetricValue,
    Preprocessing,
    Protocol,
    RunResult,
    SampleView,
    SampleViews,
)

RTL = "\u202e"
HOSTILE = (
    "<script>window.pwned = 1; alert(1)</script>",
    "</script><script>window.pwned = 2</script>",
    "<!--<script>",
    "<img src=x onerror='window.pwned = 3'>",
    "\"'><svg onload=window.pwned=4>",
    "javascript:window.pwned=5",
    "{{ 7 * 7 }} {% raw %} ${window.pwned = 6}",
    "\\input{/etc/passwd} $\\frac{1}{0}$ $unclosed",
    "=cmd()|' /C calc'!A0",
    f"abc{RTL}def\u2066ghi",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \u4f60\u597d"
    " \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "\x1b[31mred\x00\x07",
    "long " * 4000,
)


def protocol(name: str = "world-3") -> Protocol:
    return Protocol(
        name=name,
        version=1,
        route="generate",
        prompt="{question}",
        preprocessing=Preprocessing(image="48x48", text="words", details=()),
        decoding="greedy",
        tie_rule="none",
    )


def metric(value: float, n: int, *, resampled: tuple[float, ...] = ()) -> MetricValue:
    return MetricValue(
        metric="accuracy",
        split="val",
        protocol="world-3/generate",
        value=value,
        low=max(value - 3, 0),
        high=min(value + 3, 100),
        n=n,
        clusters=n,
        resampled=resampled,
    )


def result(model: str = "blip", value: float = 70.0, n: int = 3, **changes: Any) -> RunResult:
    whole = RunResult(
        run_id=f"20260102T030405-{model}-vqav2",
        model=model,
        variant="miniature",
        checkpoint=f"demo:{model}",
        checkpoint_digest="sha256:" + "ab" * 32,
        task="vqav2",
        options={},
        protocols=(protocol(),),
        metrics=(metric(value, n),),
        main_metric="accuracy",
        data_fingerprint="cd" * 32,
        limit=None,
        counts=Counts(samples=n, failed=0, asked={}, from_cache={}),
        assistants={},
        notes=(),
        seconds={"predict": 1.0},
        environment={"evalkit": "0.1.0", "git_commit": "f" * 40, "dtype": "float32"},
        created="2026-01-02T03:04:05+00:00",
    )
    return replace(whole, **changes)


def picture(number: int, side: int = 48) -> ImageRef:
    sink = io.BytesIO()
    colour = (37 * number % 256, 91 * number % 256, 150)
    Image.new("RGB", (side, side // 2), colour).save(sink, "PNG")
    return ImageRef(id=f"image {number}", source=sink.getvalue())


def view(number: int, **changes: Any) -> SampleView:
    whole = SampleView(
        id=f"q{number}",
        images=(picture(number // 4),),
        asked=f"what is {number}?",
        references=(str(number), str(number), "none"),
        answer=str(number),
        failure=None,
        score=100.0,
        right=True,
        groups={"answer type": ("yes/no", "number", "other")[number % 3]},
    )
    return replace(whole, **changes)


def shown(views: list[SampleView], model: str = "blip", *, of: RunResult | None = None) -> ShownRun:
    scores = [one.score for one in views if one.score is not None]
    value = sum(scores) / len(scores) if scores else 0.0
    failed = [one for one in views if one.failure is not None]
    made = of or result(model, value, len(views))
    made = replace(made, counts=replace(made.counts, samples=len(views), failed=len(failed)))
    return ShownRun(
        result=made,
        views=SampleViews(metric="accuracy", unit="%", higher_is_better=True, views=tuple(views)),
        numbers=numbers_of(made, {}, [one.id for one in failed]),
        failures=tuple(Failure(sample=one.id, reason=one.failure or "") for one in failed),
    )


def wrong(one: SampleView, answer: str = "wrong") -> SampleView:
    return replace(one, answer=answer, score=0.0, right=False)


def failed(one: SampleView) -> SampleView:
    return replace(one, answer="", failure="out of memory", score=None, right=None)


def two_runs(n: int = 120) -> list[ShownRun]:
    """In the first every tenth sample is wrong and the sample 7 failed; in the second every fifteenth is wrong."""
    first = [wrong(view(place)) if place % 10 == 0 else view(place) for place in range(n)]
    first[7] = failed(first[7])
    second = [wrong(view(place), "other") if place % 15 == 0 else view(place) for place in range(n)]
    return [shown(first, "blip"), shown(second, "llava")]


def hostile_runs() -> list[ShownRun]:
    """Every text is hostile: names, questions, references, answers, groups, failures, notes."""
    views = [
        view(
            number,
            id=f"{number} {text}"[:200],
            images=(replace(picture(number), id=text[:300]),),
            asked=text,
            references=(text, f"also {text}"),
            answer=text,
            groups={f"kind {HOSTILE[0]}": text[:100]},
            ranks={HOSTILE[3]: (1, 2)},
        )
        for number, text in enumerate(HOSTILE)
    ]
    views[0] = replace(views[0], failure=HOSTILE[0], score=None, right=None)
    second = [wrong(one) for one in views]
    named = replace(
        result("blip", 50, len(views)),
        model=HOSTILE[0],
        variant=HOSTILE[9],
        checkpoint=HOSTILE[3],
        notes=HOSTILE[:3],
        environment={HOSTILE[1]: HOSTILE[0]},
        run_id="20260102T030405-hostile",
    )
    other = replace(named, model="$x_1$ \U0001f600", run_id="20260102T030406-hostile", options={"a": HOSTILE[1]})
    return [shown(views, of=named), shown(second, of=other)]


def many_runs(n: int = 5000, seed: int = 0) -> list[ShownRun]:
    """As many samples as a page keeps, each with an image of its own and texts as long as captions are."""
    draw = random.Random(seed)
    words = "a large green square and small purple star to the left of circle on white striped background".split()
    noise = [draw.randbytes(24 * 18 * 3) for _ in range(n)]

    def image(number: int) -> ImageRef:
        sink = io.BytesIO()
        small = Image.frombytes("RGB", (24, 18), noise[number])
        small.resize((320, 240), Image.Resampling.BICUBIC).save(sink, "JPEG")
        return ImageRef(id=f"COCO_val2014_{number:012}", source=sink.getvalue())

    def sentence() -> str:
        return " ".join(draw.choices(words, k=10))

    first = [
        view(
            number,
            images=(image(number),),
            asked=sentence(),
            references=tuple(sentence() for _ in range(5)),
            answer=sentence(),
            score=draw.random() * 100,
            right=draw.random() < 0.7,
        )
        for number in range(n)
    ]
    second = [replace(one, answer=sentence(), score=draw.random() * 100, right=draw.random() < 0.75) for one in first]
    return [shown(first, "blip"), shown(second, "llava")]


class Parsed(HTMLParser):
    """A page's tags with their attributes, its scripts, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, dict[str, str | None], str]] = []
        self.text = ""
        self._open: tuple[str, dict[str, str | None]] | None = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = (tag, dict(attrs)) if tag in ("script", "style") else None

    def handle_endtag(self, tag: str) -> None:
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open is None:
            self.text += data
        else:
            self.raw.append((*self._open, data))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def data_of(parsed: Parsed) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads(
        next(text for _, attributes, text in parsed.raw if attributes.get("id") == "data")
    )
    return found
