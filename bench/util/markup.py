"""Text of any kind inside Markdown: nothing in it is taken for a sign of Markdown or HTML."""

import html
import re

PLAIN_NAME = re.compile(r"[A-Za-z0-9]([\w@.-]*[A-Za-z0-9])?")


def escaped(text: str) -> str:
    """Every sign as its character reference; line breaks stay."""
    plain = html.escape(text, quote=False)
    return re.sub(r"[\\`*_{}\[\]|~$#@]|(?<!\s):(?=\S)|&(?!(?:amp|lt|gt);)", lambda sign: f"&#{ord(sign[0])};", plain)


def as_text(text: str) -> str:
    """One line for a heading or a list; a name that holds no sign stays as it is."""
    return text if PLAIN_NAME.fullmatch(text) else escaped(" ".join(text.split()))


def as_code(text: str) -> str:
    """A code span on one line, fenced by one backtick more than the text has in a row."""
    runs = re.findall("`+", text)
    fence, pad = "`" * (1 + max(map(len, runs), default=0)), " " if runs else ""
    return f"{fence}{pad}{' '.join(text.split())}{pad}{fence}"
