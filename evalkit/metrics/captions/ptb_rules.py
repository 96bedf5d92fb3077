"""The rules of the Penn Treebank tokenizer: at each place the longest match wins, then the first rule.

They were written from what the reference tool answers (Stanford's PTBTokenizer 3.4.1 with pycocoevalcap's flags, run as
a black box over captions, word lists, every character and random text), and from the Treebank's published conventions.
No code of that tool, or of a port of it, was read.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from evalkit.metrics.captions.ptb_characters import CURLY_QUOTES, LETTER, MARK, SYMBOL

Rule: TypeAlias = re.Pattern[str]
"""Group 1, if there is one, is the token. The rest of the match is context: it counts in length, and is read again."""

# -------------------------------------------------------------------------------------------------------- abbreviations
_TITLES = (
    "adj adm adv alex assoc asst atty ave brig capt cf cie cmdr col cpl dept det dr drs elec ens ft gen gov hon "
    "insp jos lt maj mme mr mrs ms mt natl pfc ph pres prof profs pvt rep reps rev sen sens sfc sgt spc st ste "
    "supt treas vs wm"
)
_ENDS_OF_NAMES = (
    "al ala apr ariz assn aug bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est etc ext feb fla "
    "fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb nev nov oct okla penn "
    "plc rd rt sep sept seq sq sr sys tel tenn thu thurs tue tues univ va vt wed wis wyo"
)
_CAPITALISED = "ark az del ill la mass miss ore pa tex wash"
_TITLES_NOT_IN_CAPITALS = "mfg mtg"
_ENDS_NOT_IN_CAPITALS = "pte pty"
_BEFORE_DIGITS = "art ca fig figs no nos op p pp prop"
_FILE_ENDINGS = (
    "jpg jpeg gif png bmp pdf html htm txt docx doc ppt zip tar gz exe mp3 mov wav xml php py java cpp c h ps bat dll"
)
_STARTS_OF_SENTENCES = (
    "a about according additionally after an as at but earlier he her here however if in it last many more now "
    "once one other our she since so some such that the their then there these they this we what when while yet "
    "you"
)
ABBREVIATIONS = frozenset(
    " ".join((_TITLES, _ENDS_OF_NAMES, _CAPITALISED, _TITLES_NOT_IN_CAPITALS, _ENDS_NOT_IN_CAPITALS)).split()
)
"""Words that keep their full stop, in some spelling at least."""
SPLIT_WORDS = {
    "cannot": "can not", "gimme": "gim me", "gonna": "gon na", "gotta": "got ta", "lemme": "lem me", "wanna": "wan na",
}  # fmt: skip
"""Words that are two tokens."""


def _either(words: str) -> str:
    return "|".join(words.split())


def _capitalised(words: str) -> str:
    return words.title() + " " + words.upper()


_TITLE = f"(?i:{_either(_TITLES)})|{_either(_TITLES_NOT_IN_CAPITALS + ' ' + _TITLES_NOT_IN_CAPITALS.title())}"
_END_OF_NAME = (
    f"(?i:{_either(_ENDS_OF_NAMES)})|{_either(_capitalised(_CAPITALISED))}"
    f"|{_either(_ENDS_NOT_IN_CAPITALS + ' ' + _ENDS_NOT_IN_CAPITALS.title())}"
)
_SENTENCE_START = "|".join(f"{word[0].upper()}(?i:{word[1:]})" for word in _STARTS_OF_SENTENCES.split())
"""After these a letter's full stop ends a sentence, and is no initial's; they can stand on the next line."""

# ---------------------------------------------------------------------------------------------------------------- parts
_A = f"[{LETTER}]"
_W = f"[0-9{LETTER}]"
_WORD = f"(?:[{LETTER}{MARK}][0-9{LETTER}{MARK}]*|[0-9]{_W}*)"
_QUOTE = "['\u2019\x92]"
_ANY_QUOTE = "['\u2019\x92`\u2018\u201b]"
_END = "(?![A-Za-z])"
_CONTRACTED_NOT = f"[nN](?:{_ANY_QUOTE}|&apos;)[tT]"
_ENDINGS = "(?:[sdmSDM]|ll|LL|re|RE|ve|VE)"
_SUFFIX = f"(?:'|&apos;){_ENDINGS}{_END}|[\u2019\x92]{_ENDINGS}"
_ELIDED = f"[dlnoA-HJ-XZ]{_ANY_QUOTE}{_A}{{2,}}"
_DOTTED = rf"{_A}{_W}*(?:[.!?]{_A}{_W}*)+"
_NUMBER = r"[-+]?(?:[0-9]*(?:[.:,][0-9]+)+|[0-9]+)"
_HEAD = rf"(?:{_WORD}(?:[.,]{_W}*)*|[0-9]+/[0-9]+|[dloDLO]{_ANY_QUOTE}{_A}{{2,}})"
_HYPHEN = "[-\u058a\u2010\u2011]"
_SEGMENT = rf"(?:(?:{_A}\.){{2,}}|(?:[dloDLO]{_QUOTE}(?={_A}{{2}}))?{_WORD})"
_COMPOUND = rf"{_HEAD}(?:{_HYPHEN}{_SEGMENT})+"
_UNDERSCORED = rf"{_WORD}(?:(?:_|{_HYPHEN}){_WORD})+"
_DASHED = f"{_WORD}(?:-{_WORD})*"
_FULL_STOP_BEFORE_A_MARK = rf"((?:{_DASHED}|{_DOTTED})\.)[,:;]"
_BESIDE_A_SLASH = f"{_W}+(?:-{_A}+){{0,2}}"
_SLASHED = f"{_BESIDE_A_SLASH}(?:/{_BESIDE_A_SLASH}){{1,2}}"
_ESCAPED_SLASH = rf"{_WORD}\\/{_WORD}"
_TELEPHONE = r"(?:\+[0-9]{1,3}[- ])?(?:[0-9]{2,4}[- ]|\([0-9]{2,4}\) ?)[0-9]{3,4}[- ][0-9]{3,5}"
_MAIL = rf"{_W}[^\s<>\"()|@]*@(?!\.)[^\s<>\"()|]*[^\s<>\"()|.]"
_ADDRESS = rf"(?i:https?)://[^\s<>\"()|]+[^\s<>\"()|.,;:?!-]|(?i:www)\.(?:{_W}[-0-9{LETTER}]*\.)+{_A}+"
_FILE = rf"{_W}+\.(?i:{_either(_FILE_ENDINGS)})(?!{_W})"


def _rules(*patterns: str) -> tuple[Rule, ...]:
    return tuple(re.compile(pattern) for pattern in patterns)


# ---------------------------------------------------------------------------------------------------------------- rules
_ON_A_LETTER = _rules(
    *(rf"((?i:{a}))(?i:{b})(?!{_W})" for a, b in map(str.split, SPLIT_WORDS.values())),
    _WORD,
    f"([A-Za-z]*(?![nN])[A-Za-z]){_CONTRACTED_NOT}",
    f"({_WORD})(?:{_QUOTE}|&apos;){_ENDINGS}",
    _CONTRACTED_NOT + _END,
    rf"((?:{_END_OF_NAME})\.){_A}(?![^\s.])",
    r"[Pp][Hh]\.[Dd]\.",
    rf"(?:{_TITLE}|{_END_OF_NAME})\.",
    rf"((?i:{_either(_BEFORE_DIGITS)})\.) ?[0-9]",
    rf"[A-Za-z]\.(?!\s+(?:{_SENTENCE_START})\s)",
    rf"{_A}(?:\.{_A})+\.?",
    _DOTTED,
    _FULL_STOP_BEFORE_A_MARK,
    _COMPOUND,
    _UNDERSCORED,
    _SLASHED,
    _ESCAPED_SLASH,
    _ELIDED,
    rf"{_A}{{2,}}(?<=[aeiouyAEIOUY]){_ANY_QUOTE}[aeiouA-Z]{_A}*",
    rf"([jJyY]{_QUOTE})(?!{_ENDINGS}){_A}",
    rf"(?:[dDjJlL]|[oO][lL]|(?i:dunkin|somethin)){_QUOTE}",
    rf"[cC]{_QUOTE}est{_END}",
    r"(?i:pro|anti)-",
    r"[A-Z]+(?:(?:&(?:amp;)?|\+)[A-Z]+)+",
    r"[A-Z]+\$",
    r"[cC]\+\+|[cCfF]#",
    _MAIL,
    _ADDRESS,
    _FILE,
)
_ON_A_DIGIT = _rules(
    _WORD,
    _NUMBER,
    r"(?:[0-9]+[- ])?[0-9]+/[0-9]+",
    r"[0-9]{1,2}/[0-9]{1,2}/[0-9]{2,4}",
    _FULL_STOP_BEFORE_A_MARK,
    _COMPOUND,
    _UNDERSCORED,
    _SLASHED,
    _ESCAPED_SLASH,
    _TELEPHONE,
    _MAIL,
    _FILE,
)
_ON_A_QUOTE = _rules(
    _SUFFIX,
    r"('[tT])(?i:is|was)",
    rf"{_QUOTE}[nN]{_QUOTE}",
    r"'[nN](?!\S)|[\u2019\x92][nN]",
    rf"{_QUOTE}(?i:em|till?|cause)",
    rf"{_QUOTE}[0-9]{{2}}(?!\S)",
    rf"{_QUOTE}[0-9]0s(?![-0-9{LETTER}])",
    f"''|'|{CURLY_QUOTES}",
)
_ON_ANYTHING_ELSE = _rules(
    f"``|{CURLY_QUOTES}",
    r"[!?]+|\.{3,5}|--+|\*{1,3}|#+|@+|_+",
    rf"[{SYMBOL}\[\](){{}}<>&$%+=~^|\\/`\".,:;!?#@*_-]",
    _WORD,
    _NUMBER,
    _SUFFIX,
    r"&(?i:amp|lt|gt|quot|nbsp|apos);|&[mn]dash;|&#[0-9]+;|&[aeiouAEIOU](?:acute|grave|uml);",
    r"@[A-Za-z_][0-9A-Za-z_]*",
    f"#{_A}+",
    _TELEPHONE,
    r"</?[A-Za-z!?][A-Za-z0-9.:@?/]*>",
    r"""<[A-Za-z][A-Za-z0-9]*(?:\s+[A-Za-z]+(?:=(?:'[^']*'|"[^"]*"))?)*\s*/?>""",
    r"<!--.*?-->",
    r"-[lrLR][rscRSC][bB]-",
    rf"[:;=][-o*^']?[\]\[()DdPpO@|\\{{](?!{_W})|>:-?[()](?!{_W})|[-^x=~<>]_[-^x=~<>](?!{_W})",
)


def rules_for(character: str) -> tuple[Rule, ...]:
    """The rules of tokens that can start with a character; none for white space and untokenizable characters."""
    if character in "'\u2019\x92":
        return _ON_A_QUOTE
    if character in "0123456789":
        return _ON_A_DIGIT
    if re.match(_A, character):
        return _ON_A_LETTER
    return _ON_ANYTHING_ELSE
