"""Escapes any text for Markdown, so that no character of it acts as Markdown or HTML."""

import html
import re
from collections.abc import Callable, Iterable, Sequence

PLAIN_NAME = re.compile(r"[A-Za-z0-9]([\w@.-]*[A-Za-z0-9])?")


def escaped(text: str) -> str:
    """Replace special characters by character references. Line breaks stay."""
    plain = html.escape(text, quote=False)
    return re.sub(
        r"[\\`*_{}\[\]|~$#@]|(?<!\s):(?=\S)|&(?!(?:amp|lt|gt);)", lambda sign: f"&#{ord(sign[0])};", plain
    )


def as_text(text: str) -> str:
    """One line for a heading or a list. A name without special characters does not change."""
    return text if PLAIN_NAME.fullmatch(text) else escaped(" ".join(text.split()))


def as_code(text: str) -> str:
    """A code span on one line. Its fence is longer than any run of backticks in the text."""
    runs = re.findall("`+", text)
    fence, pad = "`" * (1 + max(map(len, runs), default=0)), " " if runs else ""
    return f"{fence}{pad}{' '.join(text.split())}{pad}{fence}"


def only_own_html(text: str) -> str:
    """A page on which the `<` of all HTML but `<details>` and `<summary>` is a character reference.

    Code spans stay; they end at the border of a table's cell.
    """
    return re.sub(
        r"(?<!`)(`+)(?!`)[^|\n]+?(?<!`)\1(?!`)|</?(?:details|summary)>|<",
        lambda found: "&lt;" if found[0] == "<" else found[0],
        text,
    )


def span(values: Iterable[float], form: Callable[[float], str]) -> str:
    """The lowest and the highest: `.32 to .84`. One text where both read the same; empty for no values."""
    ordered = sorted(values)
    return " to ".join(dict.fromkeys(form(value) for value in (*ordered[:1], *ordered[-1:])))


def joined(parts: Sequence[str]) -> str:
    """`a, b and c`"""
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]
