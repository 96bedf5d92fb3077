"""The native Penn Treebank tokenizer against what the Java one answered."""

# ruff: noqa: RUF001 # captions hold such characters

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from evalkit.metrics.captions.java import tokenize_by_java
from evalkit.metrics.captions.ptb import PUNCTUATION, tokenize, tokenize_captions, tokens
from evalkit.metrics.captions.sanitise import single_line

if TYPE_CHECKING:
    from pathlib import Path

# what Java answers, without the dropped punctuation; each row shows one rule
OBSERVED = {
    "I can't and cannot go": "i ca n't and can not go",
    "He's gonna do wanna gotta lemme gimme": "he 's gon na do wan na got ta lem me gim me",
    "cannot-x cannots cannot's": "cannot-x cannots cannot 's",
    "they're won't y'all o'clock 'em 'tis 'twas": "they 're wo n't y' all o'clock 'em 't is 't was",
    "rock'n'roll rock 'n' roll d'oh l'eau O'Neil": "rock 'n' roll rock 'n' roll d'oh l'eau o'neil",
    "hallowe'en the dogs' bone ol' ma'am": "hallowe'en the dogs bone ol' ma'am",
    "Mr. Smith vs. Dr. Jones": "mr. smith vs. dr. jones",
    "Main St.": "main st.",
    "said no. No. 5 see fig. 2": "said no no. 5 see fig. 2",
    "the U.S. at 5 a.m. and Ph.D.": "the u.s. at 5 a.m. and ph.d.",
    "one man., two": "one man. two",
    "the man.A woman": "the man.a woman",
    "3 1/2 cups, 1/2 cup, 3-1/2, 12/25/2010": "3\xa01/2 cups 1/2 cup 3-1/2 12/25/2010",
    "3  1/2 cups": "3 1/2 cups",
    "$5.00 and 5$ £5 €10 5% 50¢ ½": "$ 5.00 and 5 $ # 5 $ 10 5 % 50 cents 1/2",
    "10:30 am, 1:30pm, 3,000 people, .5": "10:30 am 1:30 pm 3,000 people .5",
    "well-known x-ray a--b a - b -5": "well-known x-ray a b a b -5",
    "and/or w/ w/o a/b/c/d he/she's": "and/or w / w/o a/b/c / d he/she 's",
    "wait... what.. .. ....": "wait what",
    "Hi!! What?! ok! ?": "hi !! what ?! ok",
    "a (red) [blue] {green} <b>": "a -lrb- red -rrb- -lsb- blue -rsb- -lcb- green -rcb- <b>",
    "AT&T A & B b&w &amp; &lt; &quot;hi&quot;": "at&t a & b b & w & < hi",
    "café “quoted” ‘single’ it’s – — …": "café quoted single it 's",
    ":) :-) ;) :D <3": ":-rrb- :--rrb- ;-rrb- :d < 3",
    "http://www.example.com/a?b=c foo.com me@x.com": "http://www.example.com/a?b=c foo.com me@x.com",
    "@handle #tag #1 a_b c*d": "@handle #tag # 1 a_b c * d",
    "5'10\" 6' the '90s 90's": "5 10 6 the '90s 90 's",
    "C++ C# a+b 1+1 x = y": "c++ c# a + b 1 +1 x = y",
    "shirt¬ a ´ b 日本語 a😀b": "shirt ¬ a ´ b 日本語 a b",
    "soft\xadhyphen zero\u200bwidth no\xa0break": "softhyphen zero width no break",
    "(206) 555-1234": "-lrb-206-rrb-\xa0555-1234",
    "U.S.-based anti-U.S. jack-o'lantern": "u.s.-based anti-u.s. jack-o'lantern",
    "   ": "",
    ".": "",
}


@pytest.mark.parametrize("caption", OBSERVED)
def test_rules(caption: str) -> None:
    assert tokenize(caption) == OBSERVED[caption]


def test_golden_pairs(shared_fixtures: Path) -> None:
    pairs = json.loads((shared_fixtures / "captions" / "ptb_tokenizer_golden.json").read_bytes())
    assert len(pairs) == 2896
    ours = tokenize_captions([caption for caption, _ in pairs])
    assert [(pair[0], own) for pair, own in zip(pairs, ours, strict=True) if own != pair[1]] == []


@pytest.mark.skipif(shutil.which("java") is None, reason="no Java: the reference tokenizer cannot run")
@pytest.mark.parametrize("vanishing", ["\ufffd", "\u200b", "\ufeff", "\x01", "\U0001f600"])
def test_a_last_caption_without_any_token_does_not_lose_its_line(vanishing: str) -> None:
    pytest.importorskip("pycocoevalcap")
    captions = ["a cat", vanishing]
    assert tokenize_by_java(captions) == tokenize_captions(captions) == ["a cat", ""]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="no Java: the reference tokenizer cannot run")
def test_every_caption_of_three_data_sets_is_tokenized_as_by_java(shared_fixtures: Path) -> None:
    pytest.importorskip("pycocoevalcap")
    coco = json.loads((shared_fixtures / "coco" / "captions_val2017.json").read_bytes())["annotations"]
    flickr30k = json.loads((shared_fixtures / "flickr30k" / "flickr30k_test_captions.json").read_bytes())
    nocaps = json.loads((shared_fixtures / "nocaps" / "nocaps_val_corpus.json").read_bytes())
    captions: list[str] = [row["caption"] for row in coco]
    captions += [caption for own in flickr30k.values() for caption in own]
    captions += [caption for row in nocaps for caption in row["caption"]]
    assert len(captions) == 75_014
    rows = zip(captions, tokenize_captions(captions), tokenize_by_java(captions), strict=True)
    assert [row for row in rows if row[1] != row[2]] == []


@pytest.mark.parametrize(
    ("following", "expected"),
    [
        (["The man"], "letter k"),
        (["A"], "letter k."),
        (["Dogs run"], "letter k."),
        ([], "letter k."),
        ([" ", "It is"], "letter k"),
    ],
)
def test_a_letter_s_full_stop_depends_on_the_next_caption(following: list[str], expected: str) -> None:
    assert tokenize_captions(["the letter K.", *following])[0] == f"the {expected}"


def test_the_order_of_other_captions_does_not_show() -> None:
    captions = [caption for caption in OBSERVED if caption.strip()]
    forwards = dict(zip(captions, tokenize_captions(captions), strict=True))
    backwards = dict(zip(captions[::-1], tokenize_captions(captions[::-1]), strict=True))
    assert forwards == backwards


def test_line_breaks_are_spaces() -> None:
    broken = "a\rb\vc\fd\x85e\u2028f\u2029g\nh\r\ni\ud800j"
    assert single_line(broken) == "a b c d e f g h  i j"
    assert tokenize(broken) == "a b c d e f g h i j"


def test_plain_captions_take_the_same_way_as_others() -> None:
    # the quick way for captions of words, hyphens and commas answers what the rules do
    for caption in (
        "A well-known man, a dog and a cat.",
        "Main Street.",
        "He cannot go",
        "a plan b.",
        "a, b, and c",
        "x",
    ):
        assert tokenize(caption) == " ".join(token for token in tokens(caption) if token not in PUNCTUATION)


def test_long_runs_take_no_time() -> None:
    for part in (".", "-", "a.", "a-", "a,", "1,", "1/", "'", "a'", "&", "<a ", "@", "a/", "(", "a_", "\u2019"):
        assert isinstance(tokenize(part * 3000), str)
