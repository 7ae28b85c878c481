"""Known damages to real verses, their strengths fixed before anyone looked.

The evaluators must see each, and only its kind.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable, Mapping, Sequence

from bench.interfaces import Damage
from domains.text.data import new_testament, verses

Texts = Sequence[str]


def shuffle_words(texts: Texts, share: float = 1.0) -> list[str]:
    """The words of the first `share` of the verses in random order."""
    noise, until = random.Random(1), round(share * len(texts))
    return [
        " ".join(noise.sample(words := text.split(), len(words))) if i < until else text
        for i, text in enumerate(texts)
    ]


def replace_words(texts: Texts, share: float) -> list[str]:
    """Each word, with probability `share`, becomes one drawn from the training text by frequency."""
    noise, words = random.Random(2), training_words()
    return [
        " ".join(noise.choice(words) if noise.random() < share else word for word in text.split())
        for text in texts
    ]


def uniform_words(texts: Texts) -> list[str]:
    """As many words, all drawn uniformly from the vocabulary of the training text."""
    noise, vocabulary = random.Random(3), sorted(set(training_words()))
    return [" ".join(noise.choice(vocabulary) for _ in text.split()) for text in texts]


def half_repeated(texts: Texts) -> list[str]:
    """The second half replaced by the first half again."""
    half = len(texts) // 2
    return [*texts[: len(texts) - half], *texts[:half]]


def ten_copies(texts: Texts) -> list[str]:
    """A tenth of the verses, ten times each."""
    return [texts[i % (len(texts) // 10)] for i in range(len(texts))]


def new_testament_only(texts: Texts) -> list[str]:
    """The held-out verses of the New Testament: fewer samples, compared with as many real ones."""
    return [text for text in texts if text in new_testament()]


def foreign(texts: Texts) -> list[str]:
    """Fluent English that is not this corpus: sentences of Python's own documentation."""
    return sentences_of_python()[: len(texts)]


@functools.cache
def training_words() -> tuple[str, ...]:
    return tuple(word for text in verses("train") for word in text.split())


@functools.cache
def sentences_of_python() -> list[str]:
    """Plain sentences from the help topics and doc strings that every Python installation carries."""
    from pydoc_data.topics import topics

    found: dict[str, None] = {}
    for text in (*topics.values(), *_doc_strings()):
        for paragraph in re.split(r"\n\s*\n", text):
            for sentence in re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split())):
                if (
                    re.fullmatch(r"[A-Z][A-Za-z ,;:'’()-]{38,298}[.!?]", sentence)
                    and sentence.count(" ") >= 7
                ):
                    found[sentence] = None
    return list(found)


def _doc_strings() -> list[str]:
    import argparse
    import asyncio
    import collections
    import datetime
    import decimal
    import email.message
    import fractions
    import http.client
    import inspect
    import ipaddress
    import logging
    import multiprocessing.pool
    import os
    import pathlib
    import shutil
    import socket
    import statistics
    import subprocess
    import tarfile
    import threading
    import unittest
    import urllib.request
    import zipfile

    modules = (
        *(
            argparse,
            asyncio,
            collections,
            datetime,
            decimal,
            email.message,
            fractions,
            http.client,
            inspect,
            ipaddress,
            logging,
        ),
        *(
            multiprocessing.pool,
            os,
            pathlib,
            random,
            re,
            shutil,
            socket,
            statistics,
            subprocess,
            tarfile,
            threading,
        ),
        *(unittest, urllib.request, zipfile),
    )
    found = []
    for module in modules:
        members = [module, *vars(module).values()]
        members += [member for kind in members if isinstance(kind, type) for member in vars(kind).values()]
        found += [member.__doc__ for member in members if isinstance(getattr(member, "__doc__", None), str)]
    return found


def _with(function: Callable[..., list[str]], share: float) -> Callable[[Texts], list[str]]:
    return functools.partial(function, share=share)


DAMAGES: Mapping[str, Damage] = {
    "words shuffled": Damage("surface", shuffle_words, valid=(0, 0.05), mutual_recall=(0.98, 9)),
    "half of the verses shuffled": Damage(
        "surface", _with(shuffle_words, 0.5), valid=(0.45, 0.55), mutual_recall=(0.98, 9)
    ),
    "words replaced 5 %": Damage("surface", _with(replace_words, 0.05), mutual_recall=(0.9, 9), milder=""),
    "words replaced 10 %": Damage(
        "surface", _with(replace_words, 0.1), mutual_recall=(0.9, 9), milder="words replaced 5 %"
    ),
    "words replaced 20 %": Damage(
        "surface", _with(replace_words, 0.2), mutual_recall=(0.9, 9), milder="words replaced 10 %"
    ),
    "words replaced 40 %": Damage(
        "surface", _with(replace_words, 0.4), mutual_recall=(0.9, 9), milder="words replaced 20 %"
    ),
    "half repeated": Damage("variety", half_repeated, mutual_recall=(0, 0.8)),
    "ten copies of a tenth": Damage("variety", ten_copies, mutual_recall=(0, 0.02)),
    "New Testament only": Damage("variety", new_testament_only, mutual_recall=(0, 0.8)),
    "words drawn uniformly": Damage("both", uniform_words, valid=(0, 0.15), mutual_recall=(0, 0.15)),
    "Python's documentation": Damage("foreign", foreign, valid=(0, 0.05)),
}
