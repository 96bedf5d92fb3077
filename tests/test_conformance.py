"""The conformance suite: good adapters pass it, and for every check there are adapters with a defect that it finds."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import itertools
import random
import textwrap
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from PIL import Image

import evalkit.testing
from evalkit.checkpoints import checkpoint_ref, resolve
from evalkit.errors import ConfigError
from evalkit.testing import (
    AdapterConformance,
    FakeEncoder,
    FakeEverything,
    FakeMatcher,
    Faults,
    declarations,
    fake_adapter,
)
from evalkit.testing.checks import NotConforming
from evalkit.testing.inputs import same
from evalkit.types import (
    CandidateScore,
    Checkpoint,
    CheckpointRef,
    Decoding,
    Generation,
    Placement,
    Preprocessing,
    Recipe,
    Variant,
)

CPU = Placement(device="cpu", dtype="float32")


# ------------------------------------------------------------------------------------------------ good adapters pass
class TestFakeEncoder(AdapterConformance):
    adapter = FakeEncoder


class TestFakeMatcher(AdapterConformance):
    adapter = FakeMatcher


class TestFakeMatcherOfPairs(AdapterConformance):
    adapter = FakeMatcher
    images_per_request = 2


class TestFakeMatcherOfDialogs(AdapterConformance):
    adapter = FakeMatcher
    context = "a dog beside a sofa"


class TestFakeEverything(AdapterConformance):
    adapter = FakeEverything


def test_a_setting_that_describe_does_not_tell_is_found(tmp_path: Path) -> None:
    silent = type("Silent", (FakeEncoder,), {"card": replace(FakeEncoder.card, settings={"pooling": ("cls", "mean")})})
    checkpoint = resolve(checkpoint_ref(silent.card, None, "x"), "x")
    with pytest.raises(NotConforming, match=r"describe says nothing about the settings \['pooling'\]"):
        declarations.check_describe(silent, checkpoint, tmp_path)
    assert dict(declarations.with_settings(silent.card, checkpoint).settings) == {"pooling": "cls"}


def test_checks_of_what_an_adapter_cannot_do_are_left_out() -> None:
    matching = {name for name in vars(AdapterConformance) if name.startswith("test_") and "match" in name}
    assert matching
    assert all(getattr(TestFakeEncoder, name) is None for name in matching)
    assert all(callable(getattr(TestFakeMatcher, name)) for name in matching)


# ------------------------------------------------------------------------------------------ adapters with one defect
BROKEN: dict[str, list[type]] = {}
"""Check -> classes that it must refuse."""
BY_MODULE = {"test_import_is_light", "test_describe_needs_no_weights", "test_entry_point_is_the_cards_name"}
"""Checks of modules, which have tests of their own below."""


def breaks(*checks: str) -> Any:
    def register(broken: type) -> type:
        for check in checks:
            BROKEN.setdefault(check, []).append(broken)
        return broken

    return register


def unit(vectors: Any) -> Any:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


CARD = FakeEncoder.card
OUR_CARD = "test_card_is_filled_in_and_pinned"


def hub(source: str, revision: str | None) -> tuple[Variant, ...]:
    return (Variant(name="base", checkpoints={"default": CheckpointRef(source=source, revision=revision)}),)


RECIPE = Recipe(prompt="{question}", decoding=Decoding(max_new_tokens=10), source="")

for wrong_card in (
    replace(CARD, name="Fake Encoder"),
    replace(CARD, version=0),
    replace(CARD, summary=""),
    replace(CARD, paper=""),
    replace(CARD, licence=""),
    replace(CARD, libraries=()),
    replace(CARD, scorings=()),
    replace(CARD, recipes={"vqa": RECIPE}),
    replace(CARD, recipes={"vqa": replace(RECIPE, source="the paper", scoring="rank")}),
    replace(CARD, variants=(replace(CARD.variants[0], recipes={"vqa": RECIPE}),)),
    replace(CARD, extra="conse"),
    replace(CARD, variants=()),
    replace(CARD, variants=CARD.variants * 2),
    replace(CARD, variants=(Variant(name="base", checkpoints={}),)),
    replace(CARD, variants=hub("openai/clip", None)),
    replace(CARD, variants=hub("openai/clip", "main")),
    replace(CARD, variants=hub("package:evalkit", "1" * 40)),
    replace(CARD, variants=hub("/home/me/weights", "1" * 40)),
    replace(CARD, variants=hub("facebook/contexts,facebook/questions", "1" * 40)),
    replace(CARD, variants=hub("facebook/contexts,questions", f"{'1' * 40},{'2' * 40}")),
    replace(CARD, settings={"Pooling": ("cls",)}),
    replace(CARD, settings={"pooling": ()}),
    replace(CARD, settings={"pooling": ("cls", "cls")}),
    "not a card",
):
    breaks(OUR_CARD)(type("WrongCard", (FakeEncoder,), {"card": wrong_card}))


@breaks("test_capabilities_are_the_methods")
class CannotDoAnything:
    card = CARD


@breaks("test_capabilities_are_the_methods")
class PreparesNothing:
    card = CARD

    def encode_image(self, images: Sequence[Any]) -> Any: ...


@breaks("test_capabilities_are_the_methods")
class PreparesForNobody:
    card = CARD

    def prepare_image(self, image: Any) -> Any: ...
    def encode_text(self, texts: Sequence[str]) -> Any: ...


@breaks("test_capabilities_are_the_methods")
class WantsABatchSize(FakeEncoder):
    def encode_text(self, texts: Sequence[str], batch_size: int = 8) -> Any: ...


@breaks("test_capabilities_are_the_methods")
class TakesAnything(FakeEncoder):
    def encode_text(self, texts: Sequence[str], **options: Any) -> Any: ...


@breaks("test_capabilities_are_the_methods")
class MisspellsACapability(FakeEncoder):
    def score_candidate(self, requests: Any) -> Any: ...


@breaks("test_prepare_image_is_pure")
class PaintsOverTheImage(FakeEncoder):
    def prepare_image(self, image: Image.Image) -> Any:
        image.paste((0, 0, 0), (0, 0, 8, 8))
        return super().prepare_image(image)


@breaks("test_prepare_image_is_pure")
class CropsAtRandom(FakeEncoder):
    def prepare_image(self, image: Image.Image) -> Any:
        return super().prepare_image(image) + np.float32(random.random())


@breaks("test_prepare_image_is_thread_safe")
class SharesABuffer(FakeEncoder):
    def prepare_image(self, image: Image.Image) -> Any:
        self.buffer = super().prepare_image(image)
        time.sleep(0.002)
        return self.buffer


FORM = "test_embeddings_have_the_form"


@breaks(FORM)
class DoublePrecision(FakeEncoder):
    def encode_image(self, images: Sequence[Any]) -> Any:
        return super().encode_image(images).astype(np.float64)


@breaks(FORM)
class Lists(FakeEncoder):
    def encode_text(self, texts: Sequence[str]) -> Any:
        return super().encode_text(texts).tolist()


@breaks(FORM)
class TorchTensors(FakeEncoder):
    def encode_text(self, texts: Sequence[str]) -> Any:
        return torch.from_numpy(super().encode_text(texts))


@breaks(FORM)
class ManyVectorsAText(FakeEncoder):
    def encode_text(self, texts: Sequence[str]) -> Any:
        return super().encode_text(texts)[:, None]


@breaks(FORM)
class AnotherSpaceForTexts(FakeEncoder):
    def encode_text(self, texts: Sequence[str]) -> Any:
        return unit(super().encode_text(texts)[:, :8])


breaks(FORM)(fake_adapter(FakeEncoder, faults=Faults(nan=True)))
breaks(FORM)(fake_adapter(FakeEncoder, faults=Faults(lost=1)))


@breaks("test_embeddings_differ")
class DoesNotLook(FakeEncoder):
    def encode_image(self, images: Sequence[Any]) -> Any:
        return super().encode_image([images[0]] * len(images))


@breaks("test_embeddings_are_normalized")
class IsNotNormalized(FakeEncoder):
    def encode_text(self, texts: Sequence[str]) -> Any:
        return super().encode_text(texts) * np.float32(1.001)


@breaks("test_embeddings_are_normalized")
class QueriesOffByALittle(FakeEverything):
    def encode_query(self, texts: Sequence[str]) -> Any:
        return super().encode_query(texts) * np.float32(1.001)


@breaks("test_embeddings_have_the_form")
class QueriesInASpaceOfTheirOwn(FakeEverything):
    def encode_query(self, texts: Sequence[str]) -> Any:
        return unit(super().encode_query(texts)[:, :8])


@breaks("test_padding_changes_no_embedding", "test_batch_size_changes_no_embedding")
class AttendsToPaddingInQueries(FakeEverything):
    def encode_query(self, texts: Sequence[str]) -> Any:
        return unit(super().encode_query(texts) + np.float32(max(map(len, texts)) / 1000))


@breaks("test_batch_size_changes_no_embedding")
class CentersTheBatch(FakeEncoder):
    """As batch normalization in training mode does."""

    def encode_image(self, images: Sequence[Any]) -> Any:
        vectors = super().encode_image(images)
        return unit(vectors - 0.1 * vectors.mean(axis=0))


@breaks("test_order_changes_no_embedding")
class RemembersPositions(FakeEncoder):
    def encode_text(self, texts: Sequence[str]) -> Any:
        vectors = super().encode_text(texts)
        vectors[:, 0] += np.arange(len(vectors)) * 1e-3
        return unit(vectors)


@breaks("test_order_changes_no_embedding")
class SortsAndForgets(FakeEncoder):
    def encode_text(self, texts: Sequence[str]) -> Any:
        return super().encode_text(sorted(texts, key=len))


@breaks("test_padding_changes_no_embedding")
class AttendsToPadding(FakeEncoder):
    def encode_text(self, texts: Sequence[str]) -> Any:
        longest = max(len(text) for text in texts)
        vectors = super().encode_text(texts)
        vectors[:, 0] += np.array([longest - len(text) for text in texts], np.float32) * np.float32(1e-3)
        return unit(vectors)


class InLowerPrecision:
    """Knows in which precision it was loaded."""

    dtype: str

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        loaded = cls()
        loaded.dtype = placement.dtype
        return loaded


@breaks("test_lower_precision_changes_embeddings_little")
class Overflows(InLowerPrecision, FakeEncoder):
    def encode_image(self, images: Sequence[Any]) -> Any:
        vectors = super().encode_image(images)
        return unit(vectors + 0.2 * (self.dtype == "bfloat16"))


@breaks("test_lower_precision_changes_embeddings_little")
class AnswersInLowerPrecision(InLowerPrecision, FakeEncoder):
    def encode_image(self, images: Sequence[Any]) -> Any:
        return super().encode_image(images).astype(np.float16 if self.dtype == "bfloat16" else np.float32)


@breaks("test_lower_precision_changes_logits_little")
class LogitsOverflow(InLowerPrecision, FakeMatcher):
    def match(self, requests: Any) -> Any:
        return [logits * (0.5 if self.dtype == "bfloat16" else 1) for logits in super().match(requests)]


MATCH = "test_match_gives_one_logit_a_text"


@breaks(MATCH)
class OneLogitARequest(FakeMatcher):
    def match(self, requests: Any) -> Any:
        return [logits[:1] for logits in super().match(requests)]


@breaks(MATCH)
class LogitsOfBothClasses(FakeMatcher):
    def match(self, requests: Any) -> Any:
        return [np.stack([-logits, logits], axis=-1) for logits in super().match(requests)]


@breaks(MATCH)
class DoubleLogits(FakeMatcher):
    def match(self, requests: Any) -> Any:
        return [logits.astype(np.float64) for logits in super().match(requests)]


@breaks(MATCH)
class ListsOfLogits(FakeMatcher):
    def match(self, requests: Any) -> Any:
        return [logits.tolist() for logits in super().match(requests)]


@breaks(MATCH)
class AlwaysTheSameLogit(FakeMatcher):
    def match(self, requests: Any) -> Any:
        return [np.zeros_like(logits) for logits in super().match(requests)]


breaks(MATCH)(fake_adapter(FakeMatcher, faults=Faults(nan=True)))
breaks(MATCH)(fake_adapter(FakeMatcher, faults=Faults(lost=1)))


@breaks("test_match_gives_log_odds")
class NoLogOdds(FakeMatcher):
    def match(self, requests: Any) -> Any:
        known = [request.scoring == "logit" for request in requests]
        return [
            logits if ours else np.full_like(logits, np.nan)
            for logits, ours in zip(super().match(requests), known, strict=True)
        ]


@breaks("test_batch_size_changes_no_logit")
class LooksAtOtherRequests(FakeMatcher):
    def match(self, requests: Any) -> Any:
        return [logits + np.float32(1e-3 * len(requests)) for logits in super().match(requests)]


@breaks("test_texts_together_are_texts_one_by_one")
class Softmax(FakeMatcher):
    """A probability among the request's texts in place of a raw logit."""

    def match(self, requests: Any) -> Any:
        return [np.exp(logits) / np.exp(logits).sum() for logits in super().match(requests)]


@breaks("test_order_changes_no_logit")
class SortsTexts(FakeMatcher):
    def match(self, requests: Any) -> Any:
        return super().match([replace(item, texts=tuple(sorted(item.texts, key=len))) for item in requests])


@breaks("test_order_changes_no_logit")
class SortsRequests(FakeMatcher):
    def match(self, requests: Any) -> Any:
        return super().match(sorted(requests, key=lambda item: (len(item.texts), item.images[0].sum())))


CONTEXT, IMAGES, REMEMBER = (
    "test_context_changes_logits",
    "test_every_image_changes_logits",
    "test_scores_remember_no_dialog",
)


@breaks(CONTEXT)
class IgnoresTheContext(FakeMatcher):
    def match(self, requests: Any) -> Any:
        return super().match([replace(item, context="") for item in requests])


@breaks(CONTEXT)
class ReadsTheFirstContext(FakeMatcher):
    """As one that keeps what it made of a context, whatever comes next, would."""

    def match(self, requests: Any) -> Any:
        self.kept = getattr(self, "kept", requests[0].context)
        return super().match([replace(item, context=self.kept) for item in requests])


for name, looked_at in {
    "SeesOneImage": lambda images: images[:1],
    "SeesTheLastImage": lambda images: images[-1:],
    "SeesNoOrder": lambda images: sorted(images, key=lambda image: image.tobytes()),
}.items():

    def _match(self: Any, requests: Any, looked_at: Any = looked_at) -> Any:
        return FakeMatcher.match(self, [replace(item, images=tuple(looked_at(item.images))) for item in requests])

    breaks(IMAGES)(type(name, (FakeMatcher,), {"match": _match}))


class Keeps(FakeEverything):
    """Takes what it keeps of one conversation for that of another, by a key that is not enough."""

    @staticmethod
    def key(item: Any) -> Any:
        return item.turns

    def score_candidates(self, requests: Any) -> Any:
        kept = self.__dict__.setdefault("kept", {})
        told = [kept.setdefault(self.key(item), item) for item in requests]
        return super().score_candidates(
            [replace(item, images=one.images, turns=one.turns) for item, one in zip(requests, told, strict=True)]
        )


for name, key in {
    "KeepsAHistoryForEveryImage": lambda item: item.turns,
    "KeepsAnImagesFirstHistory": lambda item: item.images[0].tobytes(),
    "KeepsTheSystemTurn": lambda item: (item.turns[0], item.images[0].tobytes()),
}.items():
    breaks(REMEMBER)(type(name, (Keeps,), {"key": staticmethod(key)}))


GENERATE = "test_generations_have_the_form"


class Says(FakeEverything):
    """Generates what a subclass says."""

    @staticmethod
    def say(answer: Generation, request: Any) -> Any:
        return answer

    def generate(self, requests: Any) -> Any:
        return [self.say(answer, item) for answer, item in zip(super().generate(requests), requests, strict=True)]


for name, say in {
    "ExceedsItsBudget": lambda answer, request: replace(answer, tokens=99),
    "SaysItWasCut": lambda answer, request: replace(answer, finish="length", tokens=1),
    "RepeatsThePrompt": lambda answer, request: replace(answer, text=f"{request.turns[-1].text} {answer.text}"),
    "GivesBareText": lambda answer, request: answer.text,
}.items():
    breaks(GENERATE)(type(name, (Says,), {"say": staticmethod(say)}))
breaks(GENERATE)(fake_adapter(FakeEverything, faults=Faults(lost=1)))


@breaks("test_batch_and_order_change_no_generation")
class GeneratesByBatch(FakeEverything):
    """As left padding that is attended to does."""

    def generate(self, requests: Any) -> Any:
        return [replace(answer, text=f"{answer.text} {len(requests)}") for answer in super().generate(requests)]


@breaks("test_batch_and_order_change_no_generation")
class GeneratesByPosition(FakeEverything):
    def generate(self, requests: Any) -> Any:
        answers = super().generate(requests)
        return answers if len(answers) == 1 else [replace(answers[0], text="first"), *answers[1:]]


SCORES = "test_scores_have_the_form"
OTHER_CANDIDATES = "test_other_candidates_change_no_likelihood"


class Scores(FakeEverything):
    """Scores as a subclass says."""

    @staticmethod
    def change(scores: list[CandidateScore]) -> Any:
        return scores

    def score_candidates(self, requests: Any) -> Any:
        return [self.change(scores) for scores in super().score_candidates(requests)]


for name, change in {
    "LosesACandidate": lambda scores: scores[:-1],
    "GivesProbabilities": lambda scores: [replace(score, logprob=0.5) for score in scores],
    "CountsNoTokens": lambda scores: [replace(score, tokens=0) for score in scores],
    "GivesBareNumbers": lambda scores: [score.logprob for score in scores],
}.items():
    breaks(SCORES)(type(name, (Scores,), {"change": staticmethod(change)}))
breaks(SCORES)(fake_adapter(FakeEverything, faults=Faults(nan=True)))
breaks(SCORES)(fake_adapter(FakeEverything, faults=Faults(lost=1)))


HISTORY = "test_history_changes_scores"


@breaks("test_history_changes_generations", HISTORY)
class AnswersTheLastQuestion(FakeEverything):
    def generate(self, requests: Any) -> Any:
        return super().generate([replace(item, turns=item.turns[-1:]) for item in requests])

    def score_candidates(self, requests: Any) -> Any:
        return super().score_candidates([replace(item, turns=item.turns[-1:]) for item in requests])


for name, kept in {
    "ForgetsTheSystem": lambda turns: [turn for turn in turns if turn.role != "system"],
    "ForgetsAnswers": lambda turns: [turn for turn in turns if turn.role != "assistant"],
    "ForgetsEarlierQuestions": lambda turns: [turn for turn in turns[:-1] if turn.role != "user"] + [turns[-1]],
    "RemembersOneRound": lambda turns: [*turns[:1], *turns[-3:]],
}.items():

    def _score(self: Any, requests: Any, kept: Any = kept) -> Any:
        told = [replace(item, turns=tuple(kept(item.turns))) for item in requests]
        return FakeEverything.score_candidates(self, told)

    breaks(HISTORY)(type(name, (FakeEverything,), {"score_candidates": _score}))


@breaks("test_batch_and_order_change_no_score")
class ScoresByBatch(FakeEverything):
    def score_candidates(self, requests: Any) -> Any:
        answers = super().score_candidates(requests)
        return [[replace(score, logprob=score.logprob - len(requests)) for score in scores] for scores in answers]


@breaks("test_batch_and_order_change_no_score")
class SortsScoreRequests(FakeEverything):
    def score_candidates(self, requests: Any) -> Any:
        return super().score_candidates(sorted(requests, key=lambda item: item.turns[-1].text))


class ShortlistOf(FakeEverything):
    """Scores by a second rule, which leaves candidates out."""

    card = replace(FakeEverything.card, scorings=("loglikelihood", "shortlist"))
    kept = 1

    def score_candidates(self, requests: Any) -> Any:
        out = CandidateScore(logprob=float("-inf"), tokens=1)
        return [
            scores if item.scoring == "loglikelihood" else [*scores[: self.kept], *[out] * len(scores[self.kept :])]
            for item, scores in zip(requests, super().score_candidates(requests), strict=True)
        ]


breaks(SCORES)(type("LeavesAllOut", (ShortlistOf,), {"kept": 0}))


@breaks(SCORES)
class LeavesOutOfLikelihoods(ShortlistOf):
    def score_candidates(self, requests: Any) -> Any:
        return super().score_candidates([replace(item, scoring="shortlist") for item in requests])


@breaks(OTHER_CANDIDATES)
class NormalizesOverCandidates(FakeEverything):
    def score_candidates(self, requests: Any) -> Any:
        answers = super().score_candidates(requests)
        return [
            [replace(score, logprob=score.logprob / -sum(other.logprob for other in scores)) for score in scores]
            for scores in answers
        ]


@breaks(OTHER_CANDIDATES)
class SortsCandidates(FakeEverything):
    def score_candidates(self, requests: Any) -> Any:
        return super().score_candidates([replace(it, candidates=tuple(sorted(it.candidates))) for it in requests])


class LoadsUnlikeWeights:
    """A layer that the checkpoint does not have is initialized at random."""

    number = itertools.count()

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        loaded = cls()
        loaded.shift = next(cls.number)
        return loaded


@breaks("test_two_loads_give_the_same_bits")
class RandomHead(LoadsUnlikeWeights, FakeEncoder):
    def encode_text(self, texts: Sequence[str]) -> Any:
        return unit(super().encode_text(texts) + self.shift * 1e-3)


@breaks("test_two_loads_give_the_same_bits")
class RandomMatcher(LoadsUnlikeWeights, FakeMatcher):
    def match(self, requests: Any) -> Any:
        return [logits + np.float32(self.shift) for logits in super().match(requests)]


GIVES = {CONTEXT: {"context": "a dog beside a sofa"}, IMAGES: {"images_per_request": 2}}
"""Check -> what a suite says to get it."""


def suite_of(adapter: type, check: str = "") -> AdapterConformance:
    return type("Suite", (AdapterConformance,), {"adapter": adapter, **GIVES.get(check, {})})()


def run(suite: AdapterConformance, check: str, tmp_path: Path) -> None:
    """One test of the suite, with the fixtures it asks for."""
    test = getattr(suite, check)
    available: dict[str, Any] = {"tmp_path": tmp_path}
    wanted = inspect.signature(test).parameters
    if {"checkpoint", "loaded"} & set(wanted):
        available["checkpoint"] = resolve(checkpoint_ref(suite.adapter.card, None, "default"), "default")
        available["loaded"] = suite.adapter.load(available["checkpoint"], CPU)
    test(**{name: available[name] for name in wanted})


@pytest.mark.parametrize(
    ("check", "broken"),
    [pytest.param(check, broken, id=f"{check}-{broken.__name__}") for check in BROKEN for broken in BROKEN[check]],
)
def test_a_defect_is_found(check: str, broken: type, tmp_path: Path) -> None:
    with pytest.raises(NotConforming):
        run(suite_of(broken, check), check, tmp_path)


@pytest.mark.parametrize("check", sorted(set(BROKEN)))
def test_the_same_check_passes_without_the_defect(check: str, tmp_path: Path) -> None:
    run(suite_of(FakeEverything, check), check, tmp_path)


def test_checks_that_a_suite_must_ask_for_are_left_out_by_name(tmp_path: Path) -> None:
    for check, reason in ((CONTEXT, "gives no context"), (IMAGES, "gives one image"), (REMEMBER, "no conversations")):
        silent = type("Silent", (FakeEverything,), {"card": replace(FakeEverything.card, conversations=False)})
        with pytest.raises(pytest.skip.Exception, match=reason):
            run(suite_of(silent), check, tmp_path)


@pytest.mark.parametrize("check", [SCORES, "test_batch_and_order_change_no_score", OTHER_CANDIDATES])
def test_a_rule_whose_scores_depend_on_the_other_candidates_is_allowed(check: str, tmp_path: Path) -> None:
    """Beside log-likelihoods, which do not."""
    run(suite_of(ShortlistOf), check, tmp_path)


def test_every_check_has_an_adapter_that_fails_it() -> None:
    checks = {name for name in vars(AdapterConformance) if name.startswith("test_")}
    assert len(checks) > 20
    assert checks == set(BROKEN) | BY_MODULE


def test_an_adapter_that_refuses_a_precision_is_not_asked_in_it(tmp_path: Path) -> None:
    class Float32Only(FakeEncoder):
        @classmethod
        def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
            if placement.dtype != "float32":
                raise ConfigError("float32 only.")
            return super().load(checkpoint, placement)

    with pytest.raises(pytest.skip.Exception, match="refuses bfloat16: float32 only"):
        run(suite_of(Float32Only), "test_lower_precision_changes_embeddings_little", tmp_path)


# ------------------------------------------------------------------------------------------------ checks of a module
MODULE = """
{imports}
from evalkit.testing import FakeEncoder
from evalkit.types import Preprocessing

class Adapter(FakeEncoder):
    @classmethod
    def describe(cls, checkpoint):
{describe}
"""
PLAIN = 'return Preprocessing(image="squash", text="words")'


@pytest.fixture
def module_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes an adapter module and imports it."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def make(name: str, describe: str = PLAIN, imports: str = "") -> Any:
        body = textwrap.indent(textwrap.dedent(describe), " " * 8)
        (folder / f"{name}.py").write_text(MODULE.format(imports=imports, describe=body), "utf-8")
        importlib.invalidate_caches()
        return importlib.import_module(name).Adapter

    return make


@pytest.mark.parametrize("heavy", ["torch", "numpy", "transformers", "pandas", "pycocoevalcap.cider.cider", "evaluate"])
def test_a_heavy_import_is_found(module_of: Any, heavy: str, tmp_path: Path) -> None:
    adapter = module_of(f"heavy_{heavy.partition('.')[0]}", imports=f"import {heavy}")
    with pytest.raises(NotConforming, match=rf"imports .*{heavy.partition('.')[0]}"):
        run(suite_of(adapter), "test_import_is_light", tmp_path)


def test_a_light_module_passes(module_of: Any, tmp_path: Path) -> None:
    adapter = module_of("light")
    run(suite_of(adapter), "test_import_is_light", tmp_path)
    run(suite_of(adapter), "test_describe_needs_no_weights", tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "describe", "message"),
    [
        (
            "reads_weights",
            f"(checkpoint.path / 'model.safetensors').read_bytes()\n{PLAIN}",
            "a fresh interpreter fails",
        ),
        ("imports_torch", f"import torch\n{PLAIN}", "describe imports torch"),
        (
            "tells_paths",
            "return Preprocessing(image=str(checkpoint.path), text='words')",
            "a copy without weights says",
        ),
        ("tells_nothing_of_images", "return Preprocessing(image='', text='words')", "nothing about images"),
        ("tells_nothing_of_texts", "return Preprocessing(image='squash', text='')", "nothing about texts"),
        ("tells_text", "return 'squash'", "not a Preprocessing"),
    ],
    ids=lambda value: value if value.isidentifier() else "",
)
def test_a_wrong_description_is_found(module_of: Any, tmp_path: Path, name: str, describe: str, message: str) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}", "utf-8")
    (weights / "model.safetensors").write_bytes(b"weights")
    checkpoint = resolve(CheckpointRef(source=str(weights)), "default")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotConforming, match=message):
        suite_of(module_of(name, describe)).test_describe_needs_no_weights(checkpoint, tmp_path / "empty")


def test_a_checkpoint_of_one_file_is_described_without_its_content(module_of: Any, tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    file.write_bytes(b"weights")
    adapter = module_of("of_a_file", f"assert checkpoint.path.suffix == '.pth'\n{PLAIN}")
    (tmp_path / "empty").mkdir()
    suite_of(adapter).test_describe_needs_no_weights(resolve(CheckpointRef(source=str(file)), "x"), tmp_path / "empty")


def test_an_entry_point_of_another_name_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    group = "evalkit.model_adapters"

    def installed(name: str) -> None:
        points = [importlib.metadata.EntryPoint(name, "evalkit.testing.fake:FakeEncoder", group)]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: points)

    installed("fake")
    with pytest.raises(NotConforming, match=r"the entry point is \{'fake'\}, the card says 'fake_encoder'"):
        suite_of(FakeEncoder).test_entry_point_is_the_cards_name()
    installed("fake_encoder")
    suite_of(FakeEncoder).test_entry_point_is_the_cards_name()


# ---------------------------------------------------------------------------------------------------------- details
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.zeros(2, np.float32), np.zeros(2, np.float64)),
        (np.zeros(2), np.zeros((1, 2))),
        (np.zeros(2), np.ones(2)),
        (torch.zeros(2), torch.ones(2)),
        (torch.zeros(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)),
        ({"a": np.zeros(2)}, {"a": np.ones(2)}),
        ({"a": 1}, {"b": 1}),
        ((np.zeros(2), 1), (np.zeros(2), 2)),
        ((1,), (1, 2)),
        ((1,), [1]),
        (Image.new("RGB", (2, 2)), Image.new("RGB", (2, 2), "red")),
        (Preprocessing(image="a", text=""), Preprocessing(image="b", text="")),
        (b"a", b"b"),
    ],
)
def test_values_are_compared_to_the_bit(one: Any, other: Any) -> None:
    assert same(one, one)
    assert not same(one, other)


def test_public_names() -> None:
    for name in evalkit.testing.__all__:
        assert getattr(evalkit.testing, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        evalkit.testing.nothing  # noqa: B018 # the access is the test
