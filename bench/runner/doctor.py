"""A look at a model before anybody spends an hour: the code of `bench doctor`.

It opens the model, applies every method that does not train, and measures a few samples of it.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.artifact.format import encode
from bench.errors import BadInput, Diverged, Unsupported, in_a_line
from bench.evaluation.bounds import FLOORS
from bench.evaluation.verdicts import headroom
from bench.interfaces import Compressed, Conditions, Domain, ModelSpec
from bench.layers import tensors_of, weights_of
from bench.methods.notation import ladder, parse, rung_of
from bench.methods.plain import original
from bench.records.cell import SAMPLES, sample_count
from bench.records.schema import metric_of
from bench.registry import METHODS
from bench.runner.evaluation import Evaluation
from bench.runner.session import ModelSession
from bench.stats.ladder import ROLES
from bench.util.cache import Cache
from bench.util.progress import bar

FEW = 200  # samples that are drawn here
LITTLE = 0.1  # headroom below which a retention says little
NUMBERS = ("numbers", "share", "bytes", "ratio", "model", "permuted", "real", "headroom", "seconds")


@dataclass(frozen=True)
class Tensors:
    """Tensors of one kind, whose names differ in numbers alone, and what becomes of them."""

    names: str  # with `*` for the numbers
    count: int
    layer: str
    numbers: int
    fate: str  # which methods store them again, or why none does


@dataclass(frozen=True)
class Rung:
    """One method of the ladder applied to the model."""

    method: str
    stored_bytes: int | None  # None: it cannot be applied
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Headroom:
    """How much a role can lose: the scores of a few samples of the model, of noise and of real samples."""

    role: str
    model: float
    floor: float
    ceiling: float

    @property
    def share(self) -> float | None:
        """1: as good as real samples; 0: as permuted weights."""
        return headroom(self.model, [self.floor], self.ceiling)


@dataclass(frozen=True)
class Diagnosis:
    """All that `bench doctor` prints."""

    model: str
    parameters: int
    fp32_bytes: int
    tensors: tuple[Tensors, ...]
    rungs: tuple[Rung, ...]
    headroom: tuple[Headroom, ...]
    remarks: tuple[str, ...]
    samples: int  # of a cell of the full ladder
    seconds: Mapping[str, float]  # what part of a full ladder takes how long, by estimate


def diagnose(
    domain: Domain,
    spec: ModelSpec,
    device: str = "cpu",
    conditions: Conditions | None = None,
    reference: str | None = None,
) -> Diagnosis:
    """Open a model and look at it. Raises `BadInput` where it cannot be opened."""
    started = time.perf_counter()
    few, full = (sample_count(None, domain, reference, most) for most in (FEW, SAMPLES))
    session = ModelSession(domain, spec, few, device=device, cache=Cache(use=False), conditions=conditions)
    network = session.generator.network
    loading = time.perf_counter() - started
    rungs, made = rungs_of(session)
    found, remarks, seconds = measured(session, full, reference)
    seconds = {"load the model": loading, "compress": sum(rung.seconds for rung in rungs), **seconds}
    return Diagnosis(
        f"{domain.name} {spec.name}",
        sum(p.numel() for p in network.parameters()),
        session.fp32_bytes,
        fates(session, made),
        rungs,
        found,
        tuple(remarks),
        full,
        seconds,
    )


# ------------------------------------------------------------------------------------------ tensors and sizes


def rungs_of(session: ModelSession) -> tuple[tuple[Rung, ...], dict[str, Compressed]]:
    """Each rung's size and seconds, and what each method made of the network."""
    plain, context = original(session.generator.network), session.context(0)
    texts = ladder(recalibrated=session.has_statistics)
    rungs, made = [], {}
    for text in bar(texts, "methods", len(texts)):
        started = time.perf_counter()
        try:
            made[text] = parse(text)(plain, context)
            size, reason = len(encode(made[text], text)), ""
        except Unsupported as error:
            size, reason = None, in_a_line(error)
        rungs.append(Rung(text, size, time.perf_counter() - started, reason))
    for name in METHODS:
        kind = METHODS.load(name)
        # quantizers touch what the ladder's do, and calibrated pruning what `magnitude` does
        if kind.trains or kind.quantizes or kind.calibrates:
            continue
        try:
            made[name] = parse(name)(plain, context)
        except (Unsupported, BadInput):
            continue
    return tuple(rungs), made


def fates(session: ModelSession, made: Mapping[str, Compressed]) -> tuple[Tensors, ...]:
    """What becomes of each tensor, the largest kinds first."""
    network = session.generator.network
    weights, tensors = weights_of(network), tensors_of(network)
    reasons = dict(next(iter(made.values())).untouched) if made else {}
    groups: dict[tuple[str, str, str], Counter[str]] = {}
    for name, tensor in tensors.items():
        by = [text for text, compressed in made.items() if name in compressed.touched]
        fate = f"none: {reasons[name]}" if name in reasons else words(by, list(made))
        layer = weights[name].layer if name in weights else "other"
        key = (re.sub(r"\d+", "*", name), layer, fate)
        groups.setdefault(key, Counter()).update({"count": 1, "numbers": tensor.numel()})
    rows = [Tensors(n, c["count"], layer, c["numbers"], fate) for (n, layer, fate), c in groups.items()]
    return tuple(sorted(rows, key=lambda row: -row.numbers))


def words(by: Sequence[str], every: Sequence[str]) -> str:
    """The methods in few words; the rungs of the ladder stand together."""
    rungs = [text for text in every if rung_of(text)]
    together = ["ladder"] if rungs and set(rungs) <= set(by) else [text for text in rungs if text in by]
    return ", ".join(together + [text for text in by if text not in rungs]) or "none: no method changes it"


# ---------------------------------------------------------------------------------------- samples and seconds


def measured(
    session: ModelSession, full: int, reference: str | None = None
) -> tuple[tuple[Headroom, ...], list[str], dict[str, float]]:
    """The headroom on a few samples, remarks, and the seconds of a full ladder by part.

    full: the samples of each cell of that ladder.
    """
    evaluation, watch = Evaluation(session, reference=reference), Laps()
    panel, secondary = evaluation.panel, evaluation.secondary.scorers
    ceiling = panel.ceiling(own=False)
    for scorer in secondary.values():
        scorer.ceiling(own=False)
    watch.lap("load the evaluators")
    try:
        drawn = session.sample(session.generator.network, 0)
        watch.lap("sample")
        scores = panel.score(drawn.samples)
        for scorer in secondary.values():
            scorer.score(drawn.samples)
        watch.lap("evaluate")
        session.generator.likelihood(session.generator.network, session.generator.network)
        watch.lap("likelihood")
    except Diverged as error:
        return (), [f"the model diverges: {error}"], {}
    floor = floor_of(evaluation)
    found = []
    for role in ROLES:
        name = metric_of(role)
        found.append(Headroom(role, scores[name], floor[name], ceiling[name]))
    return tuple(found), remarks_of(found), of_a_ladder(watch.seconds, session, full)


class Laps:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.since = time.perf_counter()

    def lap(self, part: str) -> None:
        """What has passed since the last lap belongs to this part."""
        now = time.perf_counter()
        self.seconds[part], self.since = now - self.since, now


def of_a_ladder(few: Mapping[str, float], session: ModelSession, full: int) -> dict[str, float]:
    """The seconds of a full ladder of one seed by part, from those of a few samples.

    It draws and evaluates the baseline, each rung and each floor; of the floors no likelihood is needed.
    """
    cells, grow = 1 + len(ladder(session.has_statistics)), full / session.n
    times = {"sample": grow * (cells + FLOORS), "evaluate": grow * (cells + FLOORS), "likelihood": cells}
    return {part: seconds * times.get(part, 1) for part, seconds in few.items()}


def floor_of(evaluation: Evaluation) -> dict[str, float]:
    """The scores of one permuted network; none are left where it diverges."""
    session = evaluation.session
    try:
        network = session.compressed(session.floor_method(), 0)
        return evaluation.panel.score(session.sample(network, 0).samples)
    except Diverged:
        return {metric_of(role): 0.0 for role in ROLES}


def remarks_of(found: Sequence[Headroom]) -> list[str]:
    """What to know before an hour is spent."""
    return [
        f"the {one.role} of this model is hardly above permuted weights: its retention will mean little"
        for one in found
        if one.share is not None and one.share < LITTLE
    ]


# --------------------------------------------------------------------------------------------------- the page


def as_text(found: Diagnosis) -> str:
    """The diagnosis for a terminal."""
    from tabulate import tabulate

    def table(rows: Sequence[Sequence[str]], *headers: str) -> str:
        align = ["left"] + ["right" if header in NUMBERS else "left" for header in headers[1:]]
        return tabulate(rows, headers, disable_numparse=True, colalign=align)

    total = sum(row.numbers for row in found.tensors)
    tensors = [
        [f"{row.names} ({row.count})", row.layer, f"{row.numbers:,}", f"{row.numbers / total:.1%}", row.fate]
        for row in found.tensors
    ]
    rungs = [
        [r.method, "", "", r.reason]
        if r.stored_bytes is None
        else [r.method, f"{r.stored_bytes:,}", f"{found.fp32_bytes / r.stored_bytes:.1f}x", ""]
        for r in found.rungs
    ]
    scores = [
        [
            h.role,
            f"{h.model:.3f}",
            f"{h.floor:.3f}",
            f"{h.ceiling:.3f}",
            "-" if h.share is None else f"{h.share:.2f}",
        ]
        for h in found.headroom
    ]
    seconds = [[part, f"{value:.0f}"] for part, value in found.seconds.items()]
    parts = [
        f"{found.model}: {found.parameters:,} parameters, {found.fp32_bytes:,} bytes as float32",
        table(tensors, "tensors", "layer", "numbers", "share", "stored again by"),
        table(rungs, "rung", "bytes", "ratio", ""),
        table(scores, "role", "model", "permuted", "real", "headroom") if scores else "",
        f"A full ladder of one seed, {found.samples:,} samples, one process, by estimate:",
        table([*seconds, ["all", f"{sum(found.seconds.values()):.0f}"]], "part", "seconds"),
        *(f"note: {remark}" for remark in found.remarks),
    ]
    return "\n\n".join(filter(None, parts))
