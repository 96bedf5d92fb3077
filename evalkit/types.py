"""The values everything passes around: frozen, keyword-only, and importing nothing of evalkit.

Reading order: images and requests (what a task asks), answers (what a model says), cards (what a plugin declares),
protocol, samples and predictions, results.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, get_args

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray: TypeAlias = NDArray[np.float32]
else:
    FloatArray = Any  # importing this module must not import numpy

Capability = Literal["encode_image", "encode_text", "encode_query", "match", "generate", "score_candidates"]
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)

MatchKind = Literal["caption", "pair", "dialog"]
"""What a matcher judges: a caption of one image, a statement about two images (NLVR2), or a dialog about an image and
its caption (VisDial)."""

ImageT = TypeVar("ImageT")
"""An image in a request: an `ImageRef` in what a task asks, the adapter's own prepared form in what an adapter sees."""


# ---------------------------------------------------------------------------------------------------------------------
# What a task asks
# ---------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRef:
    """One image, by reference: nothing is read until somebody needs the pixels."""

    id: str
    """The data set's own id of the image; used in messages and tables, never for looking anything up."""
    source: Path | bytes | SideBySide = field(repr=False)
    """The file; the encoded bytes where the data set carries them inline (parquet); or images shown as one."""

    @property
    def name(self) -> str:
        """The file's path, or the id of an inline image: what an error message names."""
        if isinstance(self.source, SideBySide):
            return " + ".join(image.name for image in self.source.images)
        return str(self.source) if isinstance(self.source, Path) else f"inline image {self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """Images on one canvas, left to right, for a model that takes one: see `evalkit.images.side_by_side`."""

    images: tuple[ImageRef, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn of a conversation; images precede the first user turn."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How text is generated. The defaults are greedy decoding; nothing here samples at random."""

    max_new_tokens: int
    min_new_tokens: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchRequest(Generic[ImageT]):
    """One image (or two, for NLVR2) with many texts: matching is image-major so that an image is encoded once."""

    images: tuple[ImageT, ...]
    texts: tuple[str, ...]
    context: str = ""
    """A text that belongs to the images and is encoded once with them: VisDial's caption. Only `dialog` matchers take
    one."""
    scoring: Literal["logit", "log_odds"] = "logit"
    """`logit`: the raw logit of "match", which retrieval adds to a cosine. `log_odds`: the logit of "match" (NLVR2:
    "true") minus that of its opposite, so that its sigmoid is the model's probability, and above 0 means yes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest(Generic[ImageT]):
    """Images and a conversation to continue."""

    images: tuple[ImageT, ...]
    turns: tuple[Turn, ...]
    decoding: Decoding


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest(Generic[ImageT]):
    """Images, a conversation, and candidate continuations whose likelihood is asked for."""

    images: tuple[ImageT, ...]
    turns: tuple[Turn, ...]
    candidates: tuple[str, ...]
    scoring: str = "loglikelihood"
    """`loglikelihood`: summed over a candidate's tokens; or another rule that `ModelCard.scorings` lists."""


# ---------------------------------------------------------------------------------------------------------------------
# What a model says
# ---------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A model's text as it came."""

    text: str
    finish: Literal["stop", "length", "filtered"]
    """`length` where the token budget cut the text off, `filtered` where a server's content filter withheld it."""
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateScore:
    """The log-likelihood of one candidate continuation, natural logarithm, summed over its tokens."""

    logprob: float
    """-inf for a candidate that the scoring rule's own shortlist leaves out."""
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A question that got no answer, and why; a value, so that it is counted and shown and never dropped."""

    sample: str
    """What failed: an image's file name."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """Vectors in the order asked for."""

    vectors: FloatArray
    """(n, d), or (n, q, d) for models with q vectors an image; L2-normalised float32. Rows of failures are zero."""
    failures: Mapping[int, Failure]
    """Row number -> why that row has no embedding. Empty unless the run skips failures."""


# ---------------------------------------------------------------------------------------------------------------------
# What a plugin declares
# ---------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRef:
    """Where weights come from, before anything is looked up.

    `source` is a hub id (`org/name`), a local folder, a local original checkpoint file, the web address of one,
    `package:DIST[,DIST...]` for weights that are installed as Python packages, or `URL#MODEL` for a model behind a
    server. Networks that belong together are `A,B`, each a source of its own, with `revision` alike.
    """

    source: str
    revision: str | None = None
    """The hub commit (40 hex digits), `sha256:<hex>` of a file at a web address where its publisher gives one, or a
    label of the user's for a model behind a server; else None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Weights that lie on this machine, and the identity of their content."""

    source: str
    """As the user or the card named it."""
    revision: str | None
    paths: tuple[Path, ...]
    """The snapshot folder, the local folder or file, or the folder of each package; of several checkpoints each one's,
    in the order named; none where a server has the weights."""
    digest: str
    """Hub: `commit:<40 hex>`. Local, or a file from a web address: `sha256:<hex>` of the content. Packages:
    name==version of each. Behind a server: `served:URL#MODEL`, which says nothing of the content."""
    purpose: str
    """What the weights are loaded for, as `TaskCard.purpose` or `Route.purpose`."""
    settings: tuple[tuple[str, str], ...] = ()
    """Every setting of `ModelCard.settings` and its value, as the user chose or by default."""

    def setting(self, name: str) -> str:
        """The value of a setting that the card declares."""
        return dict(self.settings)[name]

    @property
    def path(self) -> Path:
        """The only or first path."""
        return self.paths[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where and in which precision an adapter runs."""

    device: str
    """A torch device: `cpu`, `cuda`, `cuda:1`, `mps`."""
    dtype: Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What happens to inputs before the network, in words and exact; part of the protocol and of the cache key."""

    image: str
    """For example `384x384 squash, bicubic (PIL)`; empty for text-only models."""
    text: str
    """For example `BLIP caption cleaning, 35 tokens`; empty for image-only models."""
    details: tuple[tuple[str, str], ...] = ()
    """Anything else that changes an answer: the processor's own settings, the layer that is pooled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One size of a model family and its default checkpoint for each purpose."""

    name: str
    checkpoints: Mapping[str, CheckpointRef]
    """Purpose -> checkpoint. A purpose is looked up as given, then without its last `/part`, then as `default`."""
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    """Recipes of this size, where they are not the family's (BLIP-2 asks OPT and FlanT5 differently); looked up before
    `ModelCard.recipes`."""
    trained_on: tuple[str, ...] = ()
    """Data sets whose labels these checkpoints learnt, of those that tasks call `TaskCard.unseen`: `ImageNet-1k`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model family is officially asked for a purpose: prompt and decoding."""

    prompt: str
    """The text of the user turn; `{question}` and the like where the task's own text goes. A completion model (BLIP)
    continues it."""
    decoding: Decoding
    source: str
    """Where it is documented."""
    scoring: str = "loglikelihood"
    """For candidates; see `ScoreRequest.scoring`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a model adapter declares about itself; readable without importing torch."""

    name: str
    """The entry point's name: what `--model` takes."""
    version: int
    """Raised by every change of the adapter that can move a score; part of the cache key."""
    summary: str
    paper: str
    licence: str
    """Of the default weights."""
    variants: tuple[Variant, ...]
    """The first is the default."""
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    """Purpose -> how the family is asked; looked up as `Variant.checkpoints`. A task falls back to its own."""
    scorings: tuple[str, ...] = ("loglikelihood",)
    """The scoring rules of `score_candidates`."""
    matches: tuple[MatchKind, ...] = ("caption",)
    """What `match` can judge, where the adapter has it."""
    max_images: int = 1
    """The most images that a request of `generate` or `score_candidates` may show."""
    conversations: bool = False
    """Whether a request of `generate` or `score_candidates` may hold more than one user turn: earlier rounds of a
    conversation, and a system turn. A task that needs them asks this before it asks anything else."""
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What a user may choose about the model: name -> the values to choose from, default first."""
    libraries: tuple[str, ...] = ("torch", "transformers")
    """Distributions whose version is part of the cache key."""
    extra: str | None = None
    """The extra of evalkit that installs what the adapter needs beyond evalkit's own dependencies."""
    modules: tuple[str, ...] = ()
    """Import names that the extra brings; checked before the adapter is loaded."""
    dtypes: tuple[Literal["float32", "float16", "bfloat16"], ...] = ("float32", "float16", "bfloat16")
    """The precisions it runs in; another one is refused before anything is read."""
    batch_size: int = 64
    """Images or texts a forward pass, where the user names none."""
    pairs_per_batch: int = 2048
    """Image-text pairs a call of `match`, where the user names no batch size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One way to get a task's answers out of a model; a task lists its routes best first."""

    name: str
    """As it stands in the protocol: `itc+itm`, `itc`, `generate`."""
    needs: tuple[Capability, ...]
    purpose: str | None = None
    """What weights are wanted on it, where it is not `TaskCard.purpose`: dialog by an ordinary image-text matcher."""
    recipe: Recipe | None = None
    """How the model is asked on it; `Task.route` fills it in where a prompt, decoding or scoring rule is part of it."""
    part: str = ""
    """What of the task is measured on it, where that is not all of it: the end of its protocols' name (`i2i`)."""
    assistants: tuple[tuple[str, str], ...] = ()
    """Further models that take part, and what identifies their answers; filled in by the runner for the protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assistant:
    """A further model that the options of a task ask for."""

    name: str
    """Its entry point's name."""
    role: str
    """What it does, for the protocol: `matcher`."""
    needs: tuple[Capability, ...]
    purpose: str
    """What weights of it are wanted, as `TaskCard.purpose`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One file or folder of a data set."""

    path: str
    """Below the data root, official layout."""
    about: str
    alternatives: tuple[str, ...] = ()
    """Other places below the data root, or other official files, that serve as well."""
    url: str | None = None
    """Where it is downloaded from; None where a form must be signed (then `instructions` says what to do)."""
    sha256: str | None = None
    size_bytes: int | None = None
    extract_to: str | None = None
    """For an archive: the folder below the data root into which it is unpacked."""
    instructions: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A data set: its files, where they officially come from, and under which licence."""

    name: str
    homepage: str
    licence: str
    files: tuple[DataFile, ...]
    own: str = ""
    """What file of one's own, by a pattern of names at the data root, serves instead of all files where the first of
    them is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCard:
    """What a task declares about itself."""

    name: str
    """The entry point's name: what `--task` takes."""
    version: int
    """Raised by every change that can move a score."""
    summary: str
    paper: str
    purpose: str
    """What weights are wanted for it (`retrieval/coco`); see `Variant.checkpoints`."""
    routes: tuple[Route, ...]
    main_metric: str
    dataset: DataSet
    protocol: str = ""
    """The protocol's name on the whole of the default split, with default options: `coco-karpathy-5k`; empty where the
    data is the user's."""
    unseen: tuple[str, ...] = ()
    """Data sets whose labels a model must not have learnt, if its numbers on their images are to mean anything: a run
    of one that has (`Variant.trained_on`) notes it."""


# ---------------------------------------------------------------------------------------------------------------------
# Protocol
# ---------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a number was measured. Two numbers are comparable only if their protocols have the same `digest`.

    Preprocessing is part of it: `itc` at 224 and at 336 pixels are two protocols of one name.
    """

    name: str
    """`coco-karpathy-5k`: data set, split and size. A part of a split is never given the split's own name."""
    version: int
    """The task's version."""
    route: str
    """`itc`, `itc+itm@256`."""
    prompt: str
    """The text template, `{caption}` where it stands raw."""
    preprocessing: Preprocessing
    decoding: str
    """Empty where nothing is generated."""
    tie_rule: str

    @property
    def id(self) -> str:
        """For example `coco-karpathy-5k/itc+itm@256`."""
        return f"{self.name}/{self.route}"

    @property
    def digest(self) -> str:
        """The first 12 hex digits of the SHA-256 of every field."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


# ---------------------------------------------------------------------------------------------------------------------
# Samples, predictions, results
# ---------------------------------------------------------------------------------------------------------------------
Unit: TypeAlias = Literal["%", "points", "rank", "score"]
"""A share times 100; what is printed times 100 without being a share (CIDEr); a rank from 1; a plain number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What every sample has; a family adds its own fields."""

    id: str
    """Unique in the split."""
    cluster: str
    """Samples of one cluster are drawn together by the bootstrap: those of an image, or of what shares images (an
    image set of NLVR2's, a paragraph)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What every stored prediction has; a family adds its own fields, which become columns of `predictions.parquet`."""

    sample_id: str
    failure: str | None
    """Why there is no prediction; None where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleView:
    """A sample, or one of its questions, as a reader sees it: what was asked, what is right, what came."""

    id: str
    """`Sample.id`; with `#` and a number where a sample holds several questions (the rounds of a dialog)."""
    images: tuple[ImageRef, ...]
    asked: str
    """The question, statement or prompt; empty where an image alone was shown."""
    references: tuple[str, ...]
    """The right answers, people's captions; empty where they are not public."""
    answer: str
    """What the model answered; of a ranking the text that stands first, where it is known."""
    failure: str | None
    score: float | None
    """In the unit of `SampleViews.metric`; None where it failed, or where no answer is public."""
    right: bool | None
    """Whether it counts as right, so that a comparison can say what flipped; None where there is no such thing."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """What breakdowns are by: `{"answer type": "yes/no"}`, `{"domain": "in"}`."""
    ranks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Direction or kind -> the rank of the right answer to each query, from 1: `{"i2t": (1,), "t2i": (1, 4)}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleViews:
    """All views of a run's samples, in order."""

    metric: str
    """The metric whose mean over the views the score is, or the closest there is to it: `accuracy`, `cider`, `mrr`."""
    unit: Unit
    higher_is_better: bool
    views: tuple[SampleView, ...]


FEW_CLUSTERS = 10
"""Clusters below which a percentile bootstrap covers clearly less than its 95 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricValue:
    """One number of a run."""

    metric: str
    """`i2t_r@1`; a measure prints as its own name."""
    split: str
    """`test`, `test/5-fold-1k`."""
    protocol: str
    """`Protocol.id` of the numbers it was measured with."""
    value: float
    low: float
    """Lower end of the 95 % bootstrap interval, clustered by `Sample.cluster`: by image, or by what shares images."""
    high: float
    n: int
    """How many queries, captions or questions the value is over."""
    unit: Unit = "%"
    higher_is_better: bool = True
    clusters: int = 0
    """How many clusters those are of, which are what the interval rests on; 0 where nothing is known of it."""
    resampled: tuple[float, ...] = field(default=(), repr=False, compare=False)
    """The value on each of the bootstrap's resamples, NaN where it is undefined on one; empty where there are none.
    Runs over the same samples are resampled alike, so the difference of two runs has the differences of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What happened to the samples and to the questions asked."""

    samples: int
    failed: int
    asked: Mapping[str, int]
    """Capability -> answers that the model was asked for."""
    from_cache: Mapping[str, int]
    """Capability -> answers that the cache had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A finished run: everything a table shows and everything needed to trace it."""

    run_id: str
    """`<time>-<model>-<task>`, the name of its directory."""
    model: str
    """Adapter name, `blip`."""
    variant: str
    """`custom` where a checkpoint was named and no variant."""
    checkpoint: str
    checkpoint_digest: str
    task: str
    options: Mapping[str, str]
    """The task's options by name, as text."""
    protocols: tuple[Protocol, ...]
    metrics: tuple[MetricValue, ...]
    main_metric: str
    data_fingerprint: str
    """A digest of the samples' content: ids, texts, and the bytes of every image."""
    limit: int | None
    """`--limit`; None for the whole split."""
    counts: Counts
    assistants: Mapping[str, str]
    """Further models that took part (`--rerank-with blip`) -> their checkpoint and its digest."""
    notes: tuple[str, ...]
    """What a reader of the numbers should know: measures that are absent and why, contaminated data."""
    seconds: Mapping[str, float]
    """Phase -> wall seconds."""
    environment: Mapping[str, str]
    """Versions, git commit, device, dtype; no secrets."""
    created: str
    """UTC, ISO 8601."""
    model_options: Mapping[str, str] = field(default_factory=dict)
    """Every setting of the model by name; see `ModelCard.settings`."""

    @property
    def complete(self) -> bool:
        """Whether the whole split was evaluated and nothing failed."""
        return self.limit is None and self.counts.failed == 0
