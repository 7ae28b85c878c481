"""Measures how much of the text models' samples stands in their training part.

    python -m scripts.studies.memorization

The uncompressed networks' samples of sampling seed 0, beside real verses of the test part, whose formulas
repeat as well. Prints the table of docs/text-domain.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import click
from tabulate import tabulate

from bench.util.progress import bar
from domains.text.adapter import TextDomain

RUN = 8  # words


@click.command()
@click.option("--samples", default=2000, show_default=True, help="Verses a model.")
def main(samples: int) -> None:
    """Shares of verses found word for word, of verses with a run of eight words from one, and of all words
    that lie in such runs.
    """
    domain = TextDomain()
    runs = {run for verse in domain.reference("train") for run in runs_of(verse.split())}
    lines = [["real verses of the test part", *shares(domain, domain.reference()[:samples], runs)]]
    names = domain.grid()
    for name in bar(names, "models", len(names)):
        generator = domain.open(domain.locate(name))
        lines.append([name, *shares(domain, list(generator.sample(generator.network, samples, 0)), runs)])
    headers = ["verses", "word for word", f"with {RUN} words in a row", f"words that lie in {RUN} in a row"]
    click.echo(tabulate(lines, headers=headers, tablefmt="pipe", disable_numparse=True))


def shares(domain: TextDomain, verses: Sequence[str], runs: set[tuple[str, ...]]) -> list[str]:
    """Three figures of `verses`, given every run of `RUN` words in the training part."""
    copied, with_run, words, inside = sum(domain.is_training_sample(verses)), 0, 0, 0
    for verse in verses:
        split = verse.split()
        hits = [run in runs for run in runs_of(split)]
        with_run += any(hits)
        words += len(split)
        inside += sum(any(hits[max(0, i - RUN + 1) : i + 1]) for i in range(len(split)))
    return [f"{copied / len(verses):.3f}", f"{with_run / len(verses):.3f}", f"{inside / words:.3f}"]


def runs_of(words: Sequence[str]) -> list[tuple[str, ...]]:
    """Every `RUN` words in a row."""
    return [tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)]


if __name__ == "__main__":
    main()
