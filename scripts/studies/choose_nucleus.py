"""Compares nuclei for the text samplers on the validation part; it does not read the test part.

    python -m scripts.studies.choose_nucleus [--model s@0]

Prints quality and diversity of samples, judged against the validation verses, for several nuclei. The ceiling
here is an equal number of training verses, which the judge has seen: read the differences, not the level.
"""

from __future__ import annotations

import argparse

from bench.evaluation.verdicts import diversity_verdict, features_of, quality_verdict
from domains.text.adapter import TextDomain
from domains.text.data import verses

NUCLEI = (1.0, 0.98, 0.95, 0.9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="s@0")
    parser.add_argument("--samples", type=int, default=2000)
    options = parser.parse_args()
    domain = TextDomain()
    judge, words = domain.evaluator("judge"), domain.evaluator("wordllama")
    reference = domain.reference("validation")[: options.samples]
    real_judged, real_words = features_of(judge, reference), features_of(words, reference)
    sets = {"training verses": verses("train")[: options.samples]}
    for nucleus in NUCLEI:
        generator = domain.open(domain.locate(options.model), settings={"nucleus": nucleus})
        sets[f"nucleus {nucleus:g}"] = list(generator.sample(generator.network, options.samples, 0))
    for title, texts in sets.items():
        quality = quality_verdict(real_judged, features_of(judge, texts), 5).metrics
        diversity = diversity_verdict(real_words, features_of(words, texts), 5).metrics
        figures = {
            "valid": quality["valid"],
            "typicality": quality["typicality"],
            "surprisal": quality["surprisal"],
        }
        figures |= {"mutual recall": diversity["mutual_recall"]}
        length = sum(len(text.split()) for text in texts) / len(texts)
        print(
            f"{title:<16}",
            *(f"{name} {value:.3f}" for name, value in figures.items()),
            f"words {length:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
