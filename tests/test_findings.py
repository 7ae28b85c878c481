"""The template of the findings: unsupported sentences, unknown and unused placeholders."""

from __future__ import annotations

import pytest

from scripts.findings import check, fill


class Page:
    def ratio(self, domain: str) -> str:
        return f"7x of {domain}"


def test_every_unsupported_sentence_is_reported() -> None:
    template = "Text compresses\nwell. So do images. So does sound."
    check([("Text compresses well", True), ("So do images", True)], template)
    with pytest.raises(ValueError) as error:
        check([("Text compresses well", False), ("So do images", True), ("So does sound", False)], template)
    assert str(error.value).splitlines() == [
        "the records do not support: Text compresses well",
        "the records do not support: So does sound",
    ]


def test_a_condition_of_words_that_the_template_lacks_is_reported() -> None:
    with pytest.raises(ValueError, match="not in the template: Text compresses badly"):
        check([("Text compresses badly", True)], "Text compresses well.")


def test_placeholders_are_replaced_and_a_line_with_domain_is_repeated() -> None:
    filled = fill("at {{ ratio text }}\n| DOMAIN | {{ ratio DOMAIN }} |\n", Page())
    assert filled.splitlines() == [
        "at 7x of text",
        "| image_gan | 7x of image_gan |",
        "| image_diffusion | 7x of image_diffusion |",
        "| text | 7x of text |",
    ]


def test_a_line_with_compared_is_repeated_for_the_domains_of_the_ladder() -> None:
    filled = fill("| COMPARED | {{ ratio COMPARED }} |\n", Page()).splitlines()
    assert filled[0] == "| image_gan | 7x of image_gan |"
    assert filled[3:] == ["| image_tokens | 7x of image_tokens |", "| molecules | 7x of molecules |"]


@pytest.mark.parametrize(
    ("template", "wrong"),
    [
        ("{{ ratio text }} {{ size }}", r"unknown placeholders: \['size'\]"),
        ("no figure", r"unused: \['ratio'\]"),
    ],
)
def test_unknown_and_unused_placeholders_are_errors(template: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        fill(template, Page())
