"""Names, prompts and answers that try to be something else in a terminal, a page, a paper or a spreadsheet."""

from __future__ import annotations

import re

HOSTILE = [
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1",
    "\uff1d1",
    "a|b",
    "a\\|b",
    "line\nbreak\r\nagain",
    "[red]bold[/red]",
    "[link=http://x]y[/link]",
    "\x1b[31mred\x1b]0;title\x07\x9b1m",
    "`code`",
    "**bold** _it_ ~~no~~ # $x$",
    "![image](http://x/y.png)",
    "@everyone https://evil.example www.evil.example",
    "\u202egnp.exe\u2066\u200f",
    "שלום עולם",
    "caf\udce9",
    "x" * 10_000,
    r"\input{/etc/passwd}\write18{id}^^5cinput{x}",
    "a\n\\end{document}\n% b",
    "\u2028\\input{x}\u2029",
    "{{ 7*7 }}{% raw %}</bdi></table>",
    '" onmouseover="alert(1)',
    "👩\u200d🔬 猫 ə́ Å ç ł ß ﬁ",
    "50% of $5 & #1_2 ~^ {x} [y] *",
    'quote " and , comma',
    "",
]
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ud800-\udfff]")
