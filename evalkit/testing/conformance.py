"""The suite that an author of a model adapter runs on it: every check is one pytest test. Needs pytest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import pytest

from evalkit.adapter import AdapterClass, capabilities_of
from evalkit.checkpoints import checkpoint_ref, resolve
from evalkit.errors import EvalkitError
from evalkit.testing import checks, declarations, inputs
from evalkit.types import Checkpoint, Placement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.types import Capability

TestT = TypeVar("TestT", bound=Callable[..., None])
_NEEDS = "_evalkit_needs"
_LOADED: dict[tuple[AdapterClass, Checkpoint], Any] = {}
"""The adapter loaded last."""


def _needs(*capabilities: str) -> Callable[[TestT], TestT]:
    """Mark a check that only concerns adapters with one of these methods."""

    def mark(test: TestT) -> TestT:
        setattr(test, _NEEDS, capabilities)
        return test

    return mark


class AdapterConformance:
    """Subclass it in a test module, name the adapter, and give it a checkpoint with tiny weights.

    Without a `checkpoint` fixture of your own, the checkpoint that the card names for `purpose` is used. Settings that
    it does not have are the card's defaults. Checks of capabilities that the adapter does not define are left out.

        class TestMyAdapter(AdapterConformance):
            adapter = MyAdapter

            @pytest.fixture
            def checkpoint(self, tiny_weights: Path) -> Checkpoint:
                return resolve(CheckpointRef(source=str(tiny_weights)), self.purpose)
    """

    adapter: ClassVar[AdapterClass]
    purpose: ClassVar[str] = "default"
    """What the weights are loaded for, as `TaskCard.purpose`."""
    tolerance: ClassVar[float] = 1e-5
    """Largest difference in float32 between two ways to compute the same number; relative where it is above 1."""
    lower_precision: ClassVar[Literal["float16", "bfloat16"]] = "bfloat16"
    lower_precision_cosine: ClassVar[float] = 0.99
    """Smallest cosine between an embedding in lower precision and the same in float32."""
    lower_precision_logit: ClassVar[float] = 0.05
    """Largest difference of a logit in lower precision, as a share of the largest logit."""
    images_per_request: ClassVar[int] = 1
    """Images in a request of `match`, `generate` and `score_candidates`. In `match` each must count, and the order."""
    context: ClassVar[str] = ""
    """What a request of `match` gives beside its images: a caption, to a matcher of dialogs. It must count."""

    def __init_subclass__(cls) -> None:
        if not hasattr(cls, "adapter"):  # a base of suites
            return
        defined = {*capabilities_of(cls.adapter), *(["prepare_image"] if hasattr(cls.adapter, "prepare_image") else [])}
        for name in dir(AdapterConformance):
            needs = getattr(getattr(AdapterConformance, name), _NEEDS, None)
            if needs is not None and not defined.intersection(needs):
                setattr(cls, name, None)  # pytest collects functions

    @pytest.fixture
    def checkpoint(self) -> Checkpoint:
        """The card's own checkpoint; override it."""
        return resolve(checkpoint_ref(self.adapter.card, None, self.purpose), self.purpose)

    @pytest.fixture
    def loaded(self, checkpoint: Checkpoint) -> Any:
        """The adapter with its weights, on the CPU in float32; loaded once."""
        key = (self.adapter, declarations.with_settings(self.adapter.card, checkpoint))
        if key not in _LOADED:
            _LOADED.clear()
            _LOADED[key] = self._load(checkpoint)
        return _LOADED[key]

    # ------------------------------------------------------------------------------------------------ declarations
    def test_card_is_filled_in_and_pinned(self) -> None:
        """See `check_card`."""
        declarations.check_card(self.adapter.card)

    def test_entry_point_is_the_cards_name(self) -> None:
        """See `check_entry_point`."""
        declarations.check_entry_point(self.adapter)

    def test_capabilities_are_the_methods(self) -> None:
        """See `check_capabilities`."""
        declarations.check_capabilities(self.adapter)

    def test_import_is_light(self) -> None:
        """See `check_imports`."""
        declarations.check_imports(self.adapter.__module__)

    def test_describe_needs_no_weights(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        """See `check_describe`."""
        declarations.check_describe(self.adapter, checkpoint, tmp_path)

    # ------------------------------------------------------------------------------------------------------ images
    @_needs("prepare_image")
    def test_prepare_image_is_pure(self, loaded: Any) -> None:
        """See `check_preparation_is_pure`."""
        checks.check_preparation_is_pure(loaded.prepare_image, inputs.sample_images())

    @_needs("prepare_image")
    def test_prepare_image_is_thread_safe(self, loaded: Any) -> None:
        """See `check_preparation_is_thread_safe`."""
        checks.check_preparation_is_thread_safe(loaded.prepare_image, inputs.sample_images())

    # -------------------------------------------------------------------------------------------------- embeddings
    @_needs("encode_image", "encode_text", "encode_query")
    def test_embeddings_have_the_form(self, loaded: Any) -> None:
        """See `check_embedding_form`; images, texts and queries are of one width."""
        widths = set()
        for capability, encode, batch in _encoders(loaded):
            vectors = encode(batch)
            checks.check_embedding_form(vectors, len(batch), (2, 3) if capability == "encode_image" else (2,))
            widths.add(vectors.shape[-1])
        checks.require(len(widths) == 1, f"images, texts and queries have widths {sorted(widths)}")

    @_needs("encode_image", "encode_text", "encode_query")
    def test_embeddings_differ(self, loaded: Any) -> None:
        """See `check_embeddings_differ`."""
        for _, encode, batch in _encoders(loaded):
            checks.check_embeddings_differ(encode(batch))

    @_needs("encode_image", "encode_text", "encode_query")
    def test_embeddings_are_normalized(self, loaded: Any) -> None:
        """See `check_normalized`."""
        for _, encode, batch in _encoders(loaded):
            checks.check_normalized(encode(batch), self.tolerance)

    @_needs("encode_image", "encode_text", "encode_query")
    def test_batch_size_changes_no_embedding(self, loaded: Any) -> None:
        """See `check_batch_size_changes_nothing`."""
        for _, encode, batch in _encoders(loaded):
            checks.check_batch_size_changes_nothing(encode, batch, self.tolerance)

    @_needs("encode_image", "encode_text", "encode_query")
    def test_order_changes_no_embedding(self, loaded: Any) -> None:
        """See `check_order_changes_nothing`."""
        for _, encode, batch in _encoders(loaded):
            checks.check_order_changes_nothing(encode, batch, self.tolerance)

    @_needs("encode_text", "encode_query")
    def test_padding_changes_no_embedding(self, loaded: Any) -> None:
        """See `check_padding_changes_nothing`."""
        for capability, encode, _ in _encoders(loaded):
            for text in inputs.TEXTS[:3] if capability != "encode_image" else ():
                checks.check_padding_changes_nothing(encode, text, inputs.LONG_TEXT, self.tolerance)

    @_needs("encode_image", "encode_text", "encode_query")
    def test_lower_precision_changes_embeddings_little(self, loaded: Any, checkpoint: Checkpoint) -> None:
        """See `check_drift`."""
        lower = self._load_lower(checkpoint)
        for (_, exact, batch), (_, rough, rough_batch) in zip(_encoders(loaded), _encoders(lower), strict=True):
            vectors, drifted = exact(batch), rough(rough_batch)
            checks.check_embedding_form(drifted, len(batch), (2, 3))
            checks.check_drift(vectors, drifted, self.lower_precision_cosine)

    # ---------------------------------------------------------------------------------------------------- matching
    @_needs("match")
    def test_match_gives_one_logit_a_text(self, loaded: Any) -> None:
        """See `check_match_form`."""
        requests = self._match_requests(loaded)
        checks.check_match_form(loaded.match(requests), requests)

    @_needs("match")
    def test_match_gives_log_odds(self, loaded: Any) -> None:
        """See `check_match_form`: every matcher answers by log-odds too."""
        requests = inputs.match_requests(_prepared(loaded), self.images_per_request, self.context, "log_odds")
        checks.check_match_form(loaded.match(requests), requests)

    @_needs("match")
    def test_batch_size_changes_no_logit(self, loaded: Any) -> None:
        """See `check_match_batches`."""
        checks.check_match_batches(loaded.match, self._match_requests(loaded), self.tolerance)

    @_needs("match")
    def test_texts_together_are_texts_one_by_one(self, loaded: Any) -> None:
        """See `check_match_texts_one_by_one`."""
        checks.check_match_texts_one_by_one(loaded.match, self._match_requests(loaded), self.tolerance)

    @_needs("match")
    def test_order_changes_no_logit(self, loaded: Any) -> None:
        """See `check_match_order`."""
        checks.check_match_order(loaded.match, self._match_requests(loaded), self.tolerance)

    @_needs("match")
    def test_context_changes_logits(self, loaded: Any) -> None:
        """See `check_match_looks_at`; for suites that give a context."""
        if not self.context:
            pytest.skip("the suite gives no context")
        requests = self._match_requests(loaded)
        changed = {"another context": [replace(one, context=inputs.OTHER_CONTEXT) for one in requests]}
        checks.check_match_looks_at(loaded.match, requests, changed, self.tolerance)

    @_needs("match")
    def test_every_image_changes_logits(self, loaded: Any) -> None:
        """See `check_match_looks_at`; for suites with several images a request, whose order counts too."""
        if self.images_per_request == 1:
            pytest.skip("the suite gives one image a request")
        prepared = _prepared(loaded)
        requests = self._requests("match", prepared)
        changed = inputs.changed_images(requests, prepared)
        checks.check_match_looks_at(loaded.match, requests, changed, self.tolerance)

    @_needs("match")
    def test_lower_precision_changes_logits_little(self, loaded: Any, checkpoint: Checkpoint) -> None:
        """See `check_match_drift`."""
        lower = self._load_lower(checkpoint)
        logits = loaded.match(self._match_requests(loaded))
        checks.check_match_drift(logits, lower.match(self._match_requests(lower)), self.lower_precision_logit)

    # --------------------------------------------------------------------------------------- generating and scoring
    @_needs("generate")
    def test_generations_have_the_form(self, loaded: Any) -> None:
        """See `check_generation_form`."""
        requests = inputs.generate_requests(_prepared(loaded), self.images_per_request)
        checks.check_generation_form(loaded.generate(requests), requests)

    @_needs("generate")
    def test_batch_and_order_change_no_generation(self, loaded: Any) -> None:
        """See `check_generation_batches`."""
        requests = inputs.generate_requests(_prepared(loaded), self.images_per_request)
        checks.check_generation_batches(loaded.generate, requests)

    @_needs("score_candidates")
    def test_scores_have_the_form(self, loaded: Any) -> None:
        """See `check_scores_form`, for every scoring rule."""
        for scoring in self.adapter.card.scorings:
            requests = inputs.score_requests(_prepared(loaded), self.images_per_request, scoring)
            checks.check_scores_form(loaded.score_candidates(requests), requests)

    @_needs("score_candidates")
    def test_batch_and_order_change_no_score(self, loaded: Any) -> None:
        """See `check_scores_batches`, for every scoring rule."""
        for scoring in self.adapter.card.scorings:
            requests = inputs.score_requests(_prepared(loaded), self.images_per_request, scoring)
            checks.check_scores_batches(loaded.score_candidates, requests, self.tolerance)

    @_needs("score_candidates")
    def test_other_candidates_change_no_likelihood(self, loaded: Any) -> None:
        """See `check_scores_candidates`; other rules than `loglikelihood` may look at all candidates."""
        if "loglikelihood" not in self.adapter.card.scorings:
            pytest.skip("the adapter does not score by loglikelihood")
        requests = inputs.score_requests(_prepared(loaded), self.images_per_request)
        checks.check_scores_candidates(loaded.score_candidates, requests, self.tolerance)

    @_needs("generate")
    def test_history_changes_generations(self, loaded: Any) -> None:
        """See `check_history_changes_generations`; for adapters whose card says that they hold conversations."""
        self._need_conversations()
        requests = inputs.generate_requests(_prepared(loaded), self.images_per_request)
        checks.check_history_changes_generations(loaded.generate, requests)

    @_needs("score_candidates")
    def test_history_changes_scores(self, loaded: Any) -> None:
        """See `check_history_changes_scores`; for adapters whose card says that they hold conversations."""
        self._need_conversations()
        requests = self._requests("score_candidates", _prepared(loaded))
        checks.check_history_changes_scores(loaded.score_candidates, requests[:1], self.tolerance)

    @_needs("score_candidates")
    def test_scores_remember_no_dialog(self, loaded: Any, checkpoint: Checkpoint) -> None:
        """See `check_scores_remember_nothing`; for adapters whose card says that they hold conversations."""
        self._need_conversations()
        requests = self._requests("score_candidates", _prepared(loaded))
        fresh = self._load(checkpoint)
        checks.check_scores_remember_nothing(loaded.score_candidates, fresh.score_candidates, requests, self.tolerance)

    # ------------------------------------------------------------------------------------------------- determinism
    def test_two_loads_give_the_same_bits(self, checkpoint: Checkpoint) -> None:
        """See `check_same_bits`, for every capability."""
        first, second = (self._all_answers(self._load(checkpoint)) for _ in range(2))
        for capability, answer in first.items():
            checks.check_same_bits(answer, second[capability])

    # ----------------------------------------------------------------------------------------------------- details
    def _load(self, checkpoint: Checkpoint) -> Any:
        checkpoint = declarations.with_settings(self.adapter.card, checkpoint)
        return self.adapter.load(checkpoint, Placement(device="cpu", dtype="float32"))

    def _load_lower(self, checkpoint: Checkpoint) -> Any:
        checkpoint = declarations.with_settings(self.adapter.card, checkpoint)
        try:
            return self.adapter.load(checkpoint, Placement(device="cpu", dtype=self.lower_precision))
        except EvalkitError as error:
            pytest.skip(f"the adapter refuses {self.lower_precision}: {error}")

    def _need_conversations(self) -> None:
        if not self.adapter.card.conversations:
            pytest.skip("the adapter holds no conversations")

    def _match_requests(self, loaded: Any) -> list[Any]:
        return self._requests("match", _prepared(loaded))

    def _all_answers(self, loaded: Any) -> dict[str, Any]:
        answers: dict[str, Any] = {capability: encode(batch) for capability, encode, batch in _encoders(loaded)}
        for capability in ("match", "generate", "score_candidates"):
            if hasattr(loaded, capability):
                requests = self._requests(capability, _prepared(loaded))
                answers[capability] = list(getattr(loaded, capability)(requests))
        return answers

    def _requests(self, capability: str, prepared: list[Any]) -> list[Any]:
        count = self.images_per_request
        if capability == "match":
            return inputs.match_requests(prepared, count, self.context)
        if capability == "generate":
            return inputs.generate_requests(prepared, count)
        return inputs.score_requests(prepared, count, self.adapter.card.scorings[0])


def _prepared(loaded: Any) -> list[Any]:
    return [loaded.prepare_image(image) for image in inputs.sample_images()]


def _encoders(loaded: Any) -> list[tuple[Capability, Callable[[Sequence[Any]], Any], list[Any]]]:
    """Each embedding capability with a batch for it."""
    encoders: list[tuple[Capability, Callable[[Sequence[Any]], Any], list[Any]]] = []
    if hasattr(loaded, "encode_image"):
        encoders.append(("encode_image", loaded.encode_image, _prepared(loaded)))
    if hasattr(loaded, "encode_text"):
        encoders.append(("encode_text", loaded.encode_text, list(inputs.TEXTS)))
    if hasattr(loaded, "encode_query"):
        encoders.append(("encode_query", loaded.encode_query, list(inputs.TEXTS)))
    return encoders
