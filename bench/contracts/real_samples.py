"""The contracts of a domain's real samples: splits, files and traits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.contracts.contract import Broken, Skipped, require
from bench.contracts.samples import SMALL, items
from bench.errors import BadInput, in_a_line
from bench.interfaces import Domain
from bench.util.cache import content_digest

SPLITS = ("test", "validation", "ceiling")
SPOILED = {"missing": "missing", "rubble": "meaningless", "cut": "truncated"}


def its_splits_share_no_sample(domain: Domain) -> None:
    """And none holds a sample twice."""
    splits = {split: domain.reference(split) for split in SPLITS}
    for split, samples in splits.items():
        require(len(samples) >= SMALL, f"{split} has {len(samples)} samples", f"give it {SMALL} or more")
        require(len(set(items(samples))) == len(samples), f"{split} repeats samples", "keep each sample once")
    digests = [digest for samples in splits.values() for digest in items(samples)]
    require(
        len(set(digests)) == len(digests), f"{', '.join(SPLITS)} share samples", "cut them apart before use"
    )
    require(
        content_digest(domain.reference("test")) == content_digest(splits["test"]),
        "two calls of `reference` differ",
        "seed what it draws",
    )


def an_unknown_split_is_named(domain: Domain) -> None:
    """`reference` refuses a split that it does not have."""
    try:
        domain.reference("no-such-split")
    except (BadInput, LookupError):
        return
    raise Broken("`reference('no-such-split')` gave samples", "raise BadInput that names the bad split")


def no_held_out_sample_is_a_training_sample(domain: Domain) -> None:
    """Where the domain can tell (`is_training_sample`)."""
    for split in SPLITS:
        found = domain.is_training_sample(domain.reference(split)[:SMALL])
        if found is None:
            raise Skipped("the training samples are not installed here, or are not known")
        require(
            len(found) == SMALL and not any(found),
            f"{sum(map(bool, found))} of {SMALL} samples of {split} are training samples",
            "cut them out of the split, and return one flag for each sample",
        )


def samples_are_read_back_as_written(domain: Domain) -> None:
    """A file loses nothing."""
    samples = domain.reference("test")[:16]
    with _folder() as folder:
        path = domain.write_samples(samples, folder / "samples")
        require(
            path.is_file() and path.parent == folder and path.name.startswith("samples"),
            f"`write_samples` to `samples` wrote {path}",
            "add a suffix to the path that it is given, and return the path written",
        )
        require(
            content_digest(domain.read_samples(path)) == content_digest(samples),
            "`read_samples` gives other samples than were written",
            "write without loss, and read back the same dtype and shape",
        )


def a_users_own_reference_is_read_and_cut(domain: Domain) -> None:
    """`reference(split, source)` cuts the user's samples into splits that share none."""
    samples = domain.reference("test")[:SMALL]
    with _folder() as folder:
        source = str(domain.write_samples(samples, folder / "own"))
        test, ceiling = (set(items(domain.reference(split, source))) for split in ("test", "ceiling"))
    require(test and ceiling, "a split of the user's own samples is empty", "give each split some of them")
    require(not test & ceiling, "test and ceiling of the user's own samples overlap", "cut them apart")
    require(
        test | ceiling <= set(items(samples)),
        "the splits of the user's own samples hold others",
        "take them from `source` alone",
    )


def files_that_hold_no_samples_are_named(domain: Domain) -> None:
    """A missing file, rubble, and a file cut by its last bytes."""
    with _folder() as folder:
        (folder / "rubble").write_bytes(bytes(range(256)))
        whole = domain.write_samples(domain.reference("test")[:16], folder / "whole")
        cut = folder / f"cut{whole.suffix}"
        cut.write_bytes(whole.read_bytes()[:-5])
        for name in ("missing", "rubble", cut.name):
            what = f"a {SPOILED[Path(name).stem]} file in `read_samples`"
            check_refused(what, name, domain.read_samples, folder / name)


def traits_say_one_thing_of_each_sample_by_itself(domain: Domain) -> None:
    """Finite numbers or labels, [n], the same for the first 8 alone."""
    samples = domain.reference("test")[:SMALL]
    traits, again, few = domain.traits(samples), domain.traits(samples), domain.traits(samples[:8])
    taken = traits.keys() & {"surprisal", "rarity"}
    require(not taken, f"it has a trait {', '.join(taken)}", "rename it: every domain has one of that name")
    for name, values in traits.items():
        require(
            values.shape == (SMALL,) and values.dtype.kind in "biufU",
            f"the trait {name!r} is {values.dtype} {list(values.shape)} for {SMALL} samples",
            "give one number or label for each sample",
        )
        require(
            values.dtype.kind == "U" or np.isfinite(values).all(),
            f"the trait {name!r} is not finite",
            "give a finite number",
        )
        require(
            values[:8].tolist() == few[name].tolist() == again[name][:8].tolist(),
            f"the trait {name!r} of a sample differs between calls",
            "compute it from that sample alone",
        )


def check_refused(what: str, name: str, ask: Callable[[Any], Any], value: Any) -> None:
    """Raises `Broken` unless `ask(value)` raises a `BadInput` of one line that names `name`."""
    try:
        ask(value)
    except BadInput as error:
        require(name in in_a_line(error), f"{what}: the error does not name {name!r}", "name the bad value")
        return
    except Exception as error:
        raise Broken(
            f"{what}: {type(error).__name__}: {in_a_line(error)}", "raise bench.errors.BadInput instead"
        ) from error
    raise Broken(f"{what} is accepted", "check it, and raise bench.errors.BadInput that names it")


CONTRACTS = (
    its_splits_share_no_sample,
    an_unknown_split_is_named,
    no_held_out_sample_is_a_training_sample,
    samples_are_read_back_as_written,
    a_users_own_reference_is_read_and_cut,
    files_that_hold_no_samples_are_named,
    traits_say_one_thing_of_each_sample_by_itself,
)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
