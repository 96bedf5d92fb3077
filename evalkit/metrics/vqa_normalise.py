"""How the official VQA evaluation prepares an answer for comparison, every quirk of it kept.

Facts from `vqaEval.py` of https://github.com/GT-Vision-Lab/VQA (BSD-2-Clause), whose numbers are the published ones.
"""

from __future__ import annotations

import re

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32
"""The official code passes `re.UNICODE`, whose value is 32, in the place of the number of replacements."""
_ARTICLES = frozenset(("a", "an", "the"))
_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBER_WORDS)}
# The official table, typos and entries without effect included ("somebody'd" loses its apostrophe, words are lower-case
# by then so that "Im" never occurs): `written:replacement`.
_CONTRACTIONS: dict[str, str] = dict(
    pair.split(":")
    for pair in """
aint:ain't arent:aren't cant:can't couldve:could've couldnt:couldn't couldn'tve:couldn't've
couldnt've:couldn't've didnt:didn't doesnt:doesn't dont:don't hadnt:hadn't hadnt've:hadn't've
hadn'tve:hadn't've hasnt:hasn't havent:haven't hed:he'd hed've:he'd've he'dve:he'd've hes:he's howd:how'd
howll:how'll hows:how's Id've:I'd've I'dve:I'd've Im:I'm Ive:I've isnt:isn't itd:it'd itd've:it'd've
it'dve:it'd've itll:it'll let's:let's maam:ma'am mightnt:mightn't mightnt've:mightn't've
mightn'tve:mightn't've mightve:might've mustnt:mustn't mustve:must've neednt:needn't notve:not've
oclock:o'clock oughtnt:oughtn't ow's'at:'ow's'at 'ows'at:'ow's'at 'ow'sat:'ow's'at shant:shan't
shed've:she'd've she'dve:she'd've she's:she's shouldve:should've shouldnt:shouldn't shouldnt've:shouldn't've
shouldn'tve:shouldn't've somebody'd:somebodyd somebodyd've:somebody'd've somebody'dve:somebody'd've
somebodyll:somebody'll somebodys:somebody's someoned:someone'd someoned've:someone'd've
someone'dve:someone'd've someonell:someone'll someones:someone's somethingd:something'd
somethingd've:something'd've something'dve:something'd've somethingll:something'll thats:that's thered:there'd
thered've:there'd've there'dve:there'd've therere:there're theres:there's theyd:they'd theyd've:they'd've
they'dve:they'd've theyll:they'll theyre:they're theyve:they've twas:'twas wasnt:wasn't wed've:we'd've
we'dve:we'd've weve:we've werent:weren't whatll:what'll whatre:what're whats:what's whatve:what've
whens:when's whered:where'd wheres:where's whereve:where've whod:who'd whod've:who'd've who'dve:who'd've
wholl:who'll whos:who's whove:who've whyll:why'll whyre:why're whys:why's wont:won't wouldve:would've
wouldnt:wouldn't wouldnt've:wouldn't've wouldn'tve:wouldn't've yall:y'all yall'll:y'all'll y'allll:y'all'll
yall'd've:y'all'd've y'alld've:y'all'd've y'all'dve:y'all'd've youd:you'd youd've:you'd've you'dve:you'd've
youll:you'll youre:you're youve:you've
""".split()
)


def strip_answer(text: str) -> str:
    r"""Newlines and tabs become spaces, white space at both ends goes: done to every answer, before anything else.

    >>> strip_answer(" two\tdogs\n")
    'two dogs'
    """
    return text.replace("\n", " ").replace("\t", " ").strip()


def normalise_answer(text: str) -> str:
    """Punctuation, then case, number words, articles and contractions, as the official evaluation does.

    Done to both sides where the annotators' answers differ, and to neither where all are the same. A mark is deleted if
    it stands next to a space anywhere in the text, and each mark if two digits have a comma between them anywhere;
    otherwise it becomes a space. A period that no digit follows is deleted, 32 of them at most.

    Args:
        text: An answer, after `strip_answer`.

    >>> [normalise_answer(text) for text in ("The man's dog", "left/right", "1,000-ish", "None", "U.S.A.", "dont know")]
    ["man's dog", 'left right', '1000ish', '0', 'usa', "don't know"]
    """
    words = _without_marks(text).lower().split()
    kept = [word for word in (_NUMBERS.get(word, word) for word in words) if word not in _ARTICLES]
    return " ".join(_CONTRACTIONS.get(word, word) for word in kept)


def _without_marks(text: str) -> str:
    delete_all = _DIGIT_COMMA.search(text) is not None
    replaced = text
    for mark in _MARKS:
        if mark in text:
            beside_space = f"{mark} " in text or f" {mark}" in text
            replaced = replaced.replace(mark, "" if beside_space or delete_all else " ")
    return _PERIOD.sub("", replaced, count=_MOST_PERIODS)
