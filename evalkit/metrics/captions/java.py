"""The reference back end: pycocoevalcap's scorers and the Java programs that it ships.

Nothing here runs for the native back end. Every process is waited for and every pipe closed before a function returns,
and nothing is written into pycocoevalcap's own folder.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from evalkit.errors import ConfigError, DataError, PluginError, install_extra
from evalkit.metrics.captions.ptb import PUNCTUATION
from evalkit.metrics.captions.sanitise import single_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.metrics.captions.ngrams import Doubles

_NATIVE = "or use the native back end."
_TOKENIZER_JAR = "tokenizer/stanford-corenlp-3.4.1.jar"
_TOKENIZER = ("edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase")
_SPICE_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")

Scored: TypeAlias = "tuple[float, Doubles]"
"""A set's value, and each image's."""


def require_java() -> Path:
    """Check that the reference back end can run, and return pycocoevalcap's folder.

    Raises:
        PluginError: pycocoevalcap is not installed.
        ConfigError: There is no Java.
    """
    try:
        import pycocoevalcap  # noqa: PLC0415 # an optional extra
    except ImportError as error:
        raise PluginError(
            "The pycocoevalcap back end of the caption metrics needs pycocoevalcap, which is not installed.",
            f"Run: {install_extra('pycocoevalcap')}, {_NATIVE}",
        ) from error
    if shutil.which("java") is None:
        raise ConfigError(
            "The pycocoevalcap back end of the caption metrics needs Java, and there is no `java` on the PATH.",
            f"Install a Java runtime, for example openjdk-17-jre-headless, {_NATIVE}",
        )
    return Path(next(iter(pycocoevalcap.__path__)))


def tokenize_by_java(captions: Sequence[str]) -> list[str]:
    """Tokens of captions as pycocoevalcap makes them: the same program, flags and list of dropped punctuation.

    Unlike there, each caption is first made one line, and blank ones are not sent, so no caption takes another's place.

    Args:
        captions: In the order of the tokenizer's file, which can show (`ptb.tokenize_captions`).

    Raises:
        PluginError: pycocoevalcap is not installed.
        ConfigError: There is no Java, or it failed.
        DataError: Java answered with another number of lines.
    """
    jar = require_java() / _TOKENIZER_JAR
    lines = [single_line(caption) for caption in captions]
    sent = [row for row, line in enumerate(lines) if line.strip()]
    tokens = [""] * len(lines)
    if not sent:
        return tokens
    with tempfile.TemporaryDirectory(prefix="evalkit-ptb-") as scratch:
        file = Path(scratch) / "captions.txt"
        # ended by a line break: without, Java answers no line for a last caption that has no token
        file.write_text("".join(f"{lines[row]}\n" for row in sent), encoding="utf-8", newline="\n")
        # not the locale's encoding, which Java would write in
        answer = _run(["java", "-Dfile.encoding=UTF-8", "-cp", str(jar), *_TOKENIZER, str(file)])
    answers = answer.removesuffix("\n").split("\n")
    if len(answers) != len(sent):
        raise DataError(
            f"The Java tokenizer answered {len(answers)} lines for {len(sent)} captions.",
            "A character that it takes for a line break is not known: report the captions, or use the native back end.",
        )
    for row, line in zip(sent, answers, strict=True):
        tokens[row] = " ".join(token for token in line.rstrip().split(" ") if token not in PUNCTUATION)
    return tokens


def bleu_by_reference(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[Scored, ...]:
    """BLEU-1 to BLEU-4 by pycocoevalcap, of tokenized captions."""
    from pycocoevalcap.bleu.bleu import Bleu  # noqa: PLC0415 # an optional extra

    values, per_image = Bleu(4).compute_score(*_numbered(candidates, references), verbose=0)
    return tuple((float(value), np.array(own)) for value, own in zip(values, per_image, strict=True))


def rouge_l_by_reference(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Scored:
    """ROUGE-L by pycocoevalcap, of tokenized captions."""
    from pycocoevalcap.rouge.rouge import Rouge  # noqa: PLC0415 # an optional extra

    value, per_image = Rouge().compute_score(*_numbered(candidates, references))
    return float(value), np.asarray(per_image)


def cider_by_reference(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Scored:
    """CIDEr by pycocoevalcap, of tokenized captions.

    Raises:
        DataError: No reference has a token, which pycocoevalcap cannot take.
    """
    from pycocoevalcap.cider.cider import Cider  # noqa: PLC0415 # an optional extra

    if not any(text.split() for image in references for text in image):
        raise DataError(
            "No reference has a word, and pycocoevalcap's CIDEr cannot be computed.", f"Check them, {_NATIVE}"
        )
    value, per_image = Cider().compute_score(*_numbered(candidates, references))
    return float(value), np.asarray(per_image)


def meteor(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Scored:
    """METEOR 1.5 as pycocoevalcap calls it (English, normalised), of tokenized captions; a set's is of summed counts.

    Raises:
        ConfigError: The Java program failed.
    """
    from pycocoevalcap.meteor.meteor import Meteor  # noqa: PLC0415 # an optional extra

    require_java()
    scorer = Meteor()
    try:
        value, per_image = scorer.compute_score(*_numbered(candidates, references))
    except (ValueError, OSError) as error:  # no number was answered, or nobody read the question
        raise ConfigError(
            f"METEOR's Java program failed: {error}.",
            "It needs 2 GB of memory; leave METEOR out of the metrics otherwise.",
        ) from error
    finally:
        if scorer.lock.locked():
            scorer.lock.release()  # else pycocoevalcap's finaliser waits for ever
        process = scorer.meteor_p
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(BrokenPipeError):  # closing writes what nobody has read, and closes all the same
                pipe.close()
    return float(value), np.array(per_image)


def missing_for_spice() -> str:
    """What SPICE needs and pycocoevalcap's folder does not have; empty if nothing."""
    library = require_java() / "spice" / "lib"
    absent = [name for name in _SPICE_MODELS if not (library / name).is_file()]
    return f"{', '.join(absent)} (Stanford CoreNLP 3.6.0) not in {library}" if absent else ""


def spice(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Scored:
    """SPICE 1.0 as pycocoevalcap calls it: mean F-score over scene graph tuples, of tokenized captions.

    Raises:
        ConfigError: Its models are absent, or the Java program failed.
    """
    absent = missing_for_spice()
    if absent:
        raise ConfigError(f"SPICE cannot run: {absent}.", "Put them there, or leave SPICE out of the metrics.")
    work = require_java() / "spice"
    rows = [
        {"image_id": row, "test": candidate, "refs": list(own)}
        for row, (candidate, own) in enumerate(zip(candidates, references, strict=True))
    ]
    with tempfile.TemporaryDirectory(prefix="evalkit-spice-") as scratch:
        asked, answered, cache = (Path(scratch) / name for name in ("asked.json", "answered.json", "cache"))
        cache.mkdir()
        asked.write_text(json.dumps(rows), encoding="utf-8")
        options = ["-cache", str(cache), "-out", str(answered), "-subset", "-silent"]
        _run(["java", "-jar", "-Xmx8G", "spice-1.0.jar", str(asked), *options], work)
        scores = {item["image_id"]: item["scores"]["All"]["f"] for item in json.loads(answered.read_bytes())}
    per_image = np.array([np.nan if scores[row] is None else float(scores[row]) for row in range(len(rows))])
    return float(per_image.mean()), per_image


def _numbered(
    candidates: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """References and candidates as pycocoevalcap's scorers take them."""
    return {row: list(own) for row, own in enumerate(references)}, {row: [one] for row, one in enumerate(candidates)}


def _run(command: Sequence[str], folder: Path | None = None) -> str:
    """What a Java program prints."""
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(
            f"`{command[0]}` failed with code {done.returncode}: {last}", f"Check `java -version`, {_NATIVE}"
        )
    return done.stdout
