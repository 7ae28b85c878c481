"""Made-up domains with a known true retention: they test the intervals of `bench.stats.domain`.

A training seed shifts the retention curve of its model along the axis of rates (halvings of the file) by a
normal draw. So models of one domain differ where the curve falls steeply, and agree where nothing is lost.
Each generated sample is valid by independent chance. Three terms decide whether a model finds a real sample
again: independent chance, a preference that all models share, and an effect of the sampling seed. The code
that scores real records scores these as well; only the flags are drawn.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.methods.notation import LADDER
from bench.stats.comparison import difference, ratio_at
from bench.stats.compressibility import FULL_RANGE, score
from bench.stats.domain import Domain
from bench.stats.intervals import Estimate, mean_of, mean_of_strata, quantile
from bench.stats.ladder import CROSSED, ROLES, ModelLadder, Outcome
from bench.stats.scores import model_score

RATES = np.array([2.10, 2.55, 2.83, 3.15, 3.50, 4.02, 4.30, 4.80])  # of the eight rungs, about as measured
BASELINE = {"quality": 0.80, "diversity": 0.80}  # validity and mutual recall of the uncompressed model
FLOOR = {"quality": 0.0, "diversity": 0.05}
TWINS = 0.8  # correlation of a sample's luck in two networks from the same noise
# of a real sample's chance: variance common to all models, to all models at one rung; standard deviation of a
# sampling seed
SHARED, RUNG, SEED = 0.5, 0.15, 0.03
COMPARISONS = 20  # ten pairs of domains in two roles, tested together
# halvings: shift of the smaller of two sizes, as measured for the U-Nets, where sizes differ most
SMALLER = -0.3
CURVES: dict[str, dict[str, tuple[float, ...]]] = {  # retention at rate 0 and at the eight rungs
    "cliff": {
        "quality": (1, 1, 0.99, 0.96, 0.45, 0.02, 0, 0, 0),
        "diversity": (1, 1, 0.99, 0.96, 0.87, 0.5, 0.05, 0, 0),
    },
    "slope": {
        "quality": (1, 1, 0.99, 0.96, 0.74, 0.1, 0, 0, 0),
        "diversity": (1, 1, 1, 0.99, 0.94, 0.71, 0.12, 0.05, 0),
    },
    "near 1": {
        "quality": (1, 1, 1, 1, 1, 0.99, 0.97, 0.92, 0.85),
        "diversity": (1, 1, 1, 1, 1, 0.995, 0.98, 0.95, 0.9),
    },
    "rises again": {
        "quality": (1, 1, 1, 1, 1, 0.89, 0.63, 0.85, 0.29),
        "diversity": (1, 1, 1, 1, 0.98, 0.95, 0.88, 0.57, 0.56),
    },
    "above 1": {
        "quality": (1, 1.01, 1.02, 1.02, 1.01, 0.89, 0.63, 0.5, 0.29),
        "diversity": (1, 1, 1, 1.01, 0.98, 0.95, 0.88, 0.57, 0.5),
    },
    "edge": {
        "quality": (1, 1, 0.97, 0.93, 0.895, 0.8, 0.6, 0.4, 0.2),
        "diversity": (1, 1, 0.98, 0.94, 0.895, 0.8, 0.6, 0.4, 0.2),
    },
}


@dataclass(frozen=True)
class Scenario:
    """`spread` is the standard deviation of C between training seeds, where no curve is cut off: a shift of 4
    spread halvings.

    Each of `sizes` is one more network of each training seed, with luck of its own: by how many halvings its
    curve is shifted, and in `scatter` by how much more than others its shift varies (one value for all sizes,
    or one each).
    """

    name: str
    curves: tuple[str, str]  # of the two domains that are compared
    spread: float
    training_seeds: int
    sizes: tuple[float, ...] = (0.0,)
    scatter: tuple[float, ...] = (1.0,)
    diverged: bool = False  # of each domain one model, at 3 bits and below
    diverges: float = 0.0  # chance that a model does
    items: int = 2000
    sampling_seeds: int = 3


# must hold the truth in 93 % of studies
REQUIRED = ("retention", "retention, one model", "C", "C, one model", "difference of C")


def measured_spread(models: Sequence[ModelLadder]) -> float:
    """Standard deviation of C between training seeds, pooled over sizes and roles, of the domain where it is
    largest.

    Sampling noise is inside.
    Raises `ValueError` where no size of any domain has two training seeds.
    """
    found = []
    for domain in sorted({m.domain for m in models}):
        of = [m for m in models if m.domain == domain]
        groups = [
            [one.estimate.value for m in of if m.size == size and (one := model_score(m, role)) is not None]
            for size in sorted({m.size for m in of})
            for role in ROLES
        ]
        several = [group for group in groups if len(group) > 1]
        if several:
            found.append(
                sum(np.var(g, ddof=1) * (len(g) - 1) for g in several) / sum(len(g) - 1 for g in several)
            )
    if not found:
        raise ValueError("no two models differ by their training seed alone: give the spread")
    return float(np.sqrt(max(found)))


def scenarios(spread: float) -> list[Scenario]:
    """`spread` is the measured one.

    All but three were fixed before any was run: "above 1, rises again" was added by a review, which asked for
    retentions that truly exceed 1 or are not monotone, as the GAN's are; "two sizes" when a second one joined
    the domains' means; "two sizes, scattered unlike" when each got a variance of its own.
    """
    found = []
    for seeds in (2, 3, 6):
        for factor in (0.5, 1.0, 2.0):
            found.append(Scenario(f"spread x {factor:g}", ("cliff", "slope"), spread * factor, seeds))
        found.append(Scenario("retention near 1", ("near 1", "near 1"), spread / 2, seeds))
        found.append(Scenario("above 1, rises again", ("above 1", "rises again"), spread, seeds))
        found.append(Scenario("just below 0.90", ("edge", "edge"), spread, seeds))
        found.append(Scenario("one diverged seed", ("cliff", "slope"), spread, seeds, diverged=True))
        found.append(Scenario("two sizes", ("cliff", "slope"), spread, seeds, sizes=(0.0, SMALLER)))
        found.append(
            Scenario(
                "two sizes, scattered unlike",
                ("cliff", "slope"),
                spread,
                seeds,
                sizes=(0.0, SMALLER),
                scatter=(0.5, 1.5),
            )
        )
    return found


def curve(name: str, role: str, shift: float | np.ndarray) -> np.ndarray:
    """True retention at the rungs: [..., rungs]; a positive shift is a model that keeps more."""
    rates = RATES - np.asarray(shift, float)[..., None]
    return smooth(name, role)(np.clip(rates, 0.0, RATES[-1]))


@functools.cache
def smooth(name: str, role: str) -> Callable[[np.ndarray], np.ndarray]:
    """The curve through the points without corners and without overshooting (Fritsch and Carlson 1980)."""
    from scipy.interpolate import PchipInterpolator

    found: Callable[[np.ndarray], np.ndarray] = PchipInterpolator(
        np.concatenate([[0.0], RATES]), CURVES[name][role]
    )
    return found


DIVERGED_FROM = LADDER.index("int3")


def true_retention(scenario: Scenario, name: str, role: str, draws: int = 4001) -> tuple[np.ndarray, float]:
    """(retention at each rung, C) of the population of models, sizes counting alike, by quadrature over
    the shift.
    """
    from scipy.special import ndtri

    shifts = 4 * scenario.spread * ndtri((np.arange(draws) + 0.5) / draws)
    wide = np.broadcast_to(scenario.scatter, len(scenario.sizes))
    kept = np.concatenate([curve(name, role, by * shifts + size) for size, by in zip(scenario.sizes, wide)])
    dead = kept.copy()
    dead[:, DIVERGED_FROM:] = 0.0
    share = 1 / scenario.training_seeds if scenario.diverged else scenario.diverges
    scores = [
        float(np.mean([score(RATES.tolist(), row.tolist()) or 0.0 for row in group[::40]]))
        for group in (kept, dead)
    ]
    return (1 - share) * kept.mean(axis=0) + share * dead.mean(axis=0), (1 - share) * scores[
        0
    ] + share * scores[1]


# -------------------------------------------------------------------------------------------------- one study


def made_up_domain(
    scenario: Scenario, name: str, rng: np.random.Generator
) -> tuple[Domain, list[dict[str, np.ndarray]]]:
    """A domain as a study would measure it -> with the true curves of its models, by role."""
    per_seed = len(scenario.sizes)
    shifts = (
        4 * scenario.spread * rng.standard_normal((scenario.training_seeds, per_seed)) * scenario.scatter
        + scenario.sizes
    )
    dead = np.zeros(shifts.shape, bool)
    dead[0] = scenario.diverged
    dead |= rng.random(shifts.shape) < scenario.diverges
    likings = [rng.standard_normal((len(RATES) + 1, scenario.items), dtype=np.float32) for _ in range(2)]
    models, truths = [], []
    for (seed, size), shift in np.ndenumerate(shifts):
        truth = {role: curve(name, role, shift) for role in ROLES}
        died = bool(dead[seed, size])
        if died:
            for kept in truth.values():
                kept[DIVERGED_FROM:] = 0.0
        outcomes = {
            "quality": _quality(scenario, truth["quality"], died, rng),
            "diversity": _diversity(scenario, truth["diversity"], died, likings, rng),
        }
        models.append(
            ModelLadder(name, f"size{size}@{seed}", LADDER, RATES, outcomes, {role: 0.9 for role in ROLES})
        )
        truths.append(truth)
    units = tuple(tuple(models[k : k + per_seed]) for k in range(0, len(models), per_seed))
    return Domain(name, tuple(models), units), truths


def _quality(scenario: Scenario, truth: np.ndarray, dead: bool, rng: np.random.Generator) -> Outcome:
    """Twins: each sampling seed has samples of its own, and a sample's luck is alike in all networks."""
    shape = (scenario.sampling_seeds, scenario.items)
    common = np.sqrt(TWINS) * rng.standard_normal(shape, dtype=np.float32)
    luck = common + np.sqrt(1 - TWINS) * rng.standard_normal((len(truth) + 1, *shape), dtype=np.float32)
    return _outcome("quality", truth, luck, dead)


def _diversity(
    scenario: Scenario, truth: np.ndarray, dead: bool, likings: Sequence[np.ndarray], rng: np.random.Generator
) -> Outcome:
    """Real samples: the same under all seeds of all models."""
    shape = (len(truth) + 1, scenario.sampling_seeds, scenario.items)
    rest = 1 - SHARED - RUNG
    luck = np.sqrt(rest) * rng.standard_normal(shape, dtype=np.float32)
    luck += (np.sqrt(SHARED) * likings[0][0] + np.sqrt(RUNG) * likings[1])[:, None, :]
    luck += SEED * rng.standard_normal((*shape[:2], 1), dtype=np.float32)
    return _outcome("diversity", truth, luck / np.float32(np.sqrt(1 + SEED**2)), dead)


def _outcome(role: str, truth: np.ndarray, luck: np.ndarray, dead: bool) -> Outcome:
    """Luck [1 + rungs, seeds, items], standard normal -> flags -> what `bench.stats.ladder.outcome` makes
    of them.
    """
    from scipy.special import ndtri

    floor, base = FLOOR[role], BASELINE[role]
    share = np.concatenate([[base], floor + truth * (base - floor)])
    flags = luck < ndtri(share)[:, None, None].astype(np.float32)
    means = flags.mean(axis=-1)
    spans = means[0] - floor
    retention = (means[1:] - floor) / spans
    influence = (flags[1:] - retention[..., None] * flags[0]) / spans[:, None]
    if dead:
        retention[DIVERGED_FROM:], influence[DIVERGED_FROM:] = 0.0, 0.0
    return Outcome(retention, influence, CROSSED[role], float(spans.mean()))


# --------------------------------------------------------------------------------------------------- coverage


@dataclass
class Tally:
    """How often an interval held the truth, and how wide it was."""

    covered: int = 0
    total: int = 0
    width: float = 0.0

    def add(self, interval: tuple[float, float] | None, truth: float) -> None:
        if interval is None:
            return
        self.covered += interval[0] - 1e-9 <= truth <= interval[1] + 1e-9
        self.total += 1
        self.width += interval[1] - interval[0]

    @property
    def coverage(self) -> float:
        return self.covered / self.total if self.total else float("nan")

    @property
    def mean_width(self) -> float:
        return self.width / self.total if self.total else float("nan")


def coverage(
    scenario: Scenario, runs: int, seed: int = 0, watch: Iterable[int] | None = None
) -> dict[str, Tally]:
    """Run the whole estimator on `runs` made-up studies of two domains -> tallies by name, rejected
    estimators included.

    `unsafe` counts how often a certified ratio at 0.90 was larger than the true one (`coverage` is then the
    share of mistakes).
    """
    rng = np.random.default_rng(
        [seed, scenario.training_seeds, int(1e6 * scenario.spread), len(scenario.name)]
    )
    truths = {
        (i, role): true_retention(scenario, name, role)
        for i, name in enumerate(scenario.curves)
        for role in ROLES
    }
    found: defaultdict[str, Tally] = defaultdict(Tally)
    for _ in watch if watch is not None else range(runs):
        made = [made_up_domain(scenario, name, rng) for name in scenario.curves]
        for role in ROLES:
            for i, (domain, curves) in enumerate(made):
                kept, c = truths[i, role]
                _one_domain(found, domain, curves, role, kept, c)
            a, b = (domain.score(role) for domain, _ in made)
            assert a is not None and b is not None
            gap = difference(a, b)
            interval = (gap.low, gap.high) if gap else None
            found["difference of C"].add(interval, truths[0, role][1] - truths[1, role][1])
    return found


def _one_domain(
    tallies: defaultdict[str, Tally],
    domain: Domain,
    curves: list[dict[str, np.ndarray]],
    role: str,
    kept: np.ndarray,
    c: float,
) -> None:
    """Add the intervals of one role of one made-up domain; `kept` and `c` are the true means over models."""
    for m, truth in zip(domain.models, curves):
        for i in range(len(RATES)):
            tallies["retention, one model"].add(m.outcomes[role].rung(i).interval(), float(truth[role][i]))
        one = model_score(m, role)
        assert one is not None
        tallies["C, one model"].add(one.interval(), score(RATES.tolist(), truth[role].tolist()) or 0.0)
    for i, rung in enumerate(LADDER):
        estimate = domain.retention(role, rung)
        assert estimate is not None
        interval = estimate.interval()
        tallies["retention"].add(interval, float(kept[i]))
        tallies[f"retention at {rung}"].add(interval, float(kept[i]))
    found = domain.score(role)
    assert found is not None
    tallies["C"].add(found.interval(), c)
    for name, interval in rejected(domain, role).items():
        tallies[f"C: {name}"].add(interval, c)
    ratio = ratio_at(domain, role, 0.9)
    true = int(np.argmax(np.append(kept < 0.9 - 1e-12, True)))
    certified = LADDER.index(ratio.rung) + 1 if ratio is not None and ratio.rung is not None else 0
    tallies["unsafe ratio_at_90"].add((0, 0) if certified > true else (1, 1), 0)


def rejected(domain: Domain, role: str) -> dict[str, tuple[float, float] | None]:
    """Intervals for C that one might have used instead."""
    scores = [[one for m in unit if (one := model_score(m, role)) is not None] for unit in domain.units]
    values = np.array([np.mean([one.value for one in unit]) for unit in scores])
    plain = mean_of_strata([[one.estimate.value for one in size] for size in zip(*scores)])
    spread = float(values.std(ddof=1) / np.sqrt(len(values)))
    pairs = np.indices((len(values),) * len(values)).reshape(len(values), -1) if len(values) <= 5 else None
    draws = (
        values[pairs]
        if pairs is not None
        else values[np.random.default_rng(0).integers(0, len(values), (len(values), 2000))]
    )
    every = [one.estimate for unit in scores for one in unit]
    inside = float(np.mean([(e.variance or 0.0) + e.known for e in every])) / len(every)
    paired = replace(domain, paired=True).score(role) if len(domain.units[0]) > 1 else None
    return {
        "t on clipped scores": mean_of(values.tolist()).interval(),
        "t without shared items": plain.interval(),
        "normal instead of t": (
            values.mean() - quantile(0.975, np.inf) * spread,
            values.mean() + quantile(0.975, np.inf) * spread,
        ),
        "percentile bootstrap of training seeds": tuple(np.quantile(draws.mean(axis=0), [0.025, 0.975])),
        "items and sampling seeds alone": Estimate(plain.value, inside).interval(),
        "sizes of a seed paired": paired.interval() if paired is not None else None,
    }


def power(
    gap: float, spread: float, training_seeds: int, studies: int = 20_000, items: int = 2000, seed: int = 0
) -> float:
    """Chance that two domains whose scores differ by `gap` are told apart, at the strictest of Holm's levels
    for all comparisons.

    Scores are drawn from normal distributions: the spread between training seeds, and what items and sampling
    seeds add to it (as found for made-up models). By Welch's test alone: what is asked beyond it (shared
    items, both integrals) makes the true power a little lower.
    """
    from scipy.stats import ttest_ind

    rng = np.random.default_rng([seed, training_seeds, items])
    models = made_up_domain(Scenario("power", ("slope", "slope"), spread, 3, items=items), "slope", rng)[
        0
    ].models
    estimates = [one.estimate for m in models if (one := model_score(m, "quality")) is not None]
    inside = float(np.mean([(e.variance or 0.0) + e.known for e in estimates]))
    a, b = np.sqrt(spread**2 + inside) * rng.standard_normal((2, training_seeds, studies))
    return float(np.mean(ttest_ind(a + gap, b, equal_var=False).pvalue < 0.05 / COMPARISONS))


assert FULL_RANGE[1] <= RATES[-1]
