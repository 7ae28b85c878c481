"""Tests the evaluators: it damages real samples on purpose and compares what each evaluator reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.errors import BadInput, Unsupported, blamed
from bench.evaluation.panel import Panel
from bench.evaluation.verdicts import VERDICTS
from bench.interfaces import Damage, Domain, Features, SampleFeatures, Samples
from bench.metrics.shared import K
from bench.records.cell import check_samples
from bench.records.damage_file import DamagesFile, SavedRow
from bench.records.provenance import provenance
from bench.util.cache import Cache, content_digest
from bench.util.progress import bar

STEP = 0.03  # a stronger damage must cost at least this much validity


@dataclass(frozen=True)
class Row:
    """The effect of one damage. The ceiling is the score of equally many undamaged real samples."""

    name: str
    damage: Damage
    samples: int
    valid: float
    valid_ceiling: float
    mutual_recall: float
    mutual_recall_ceiling: float
    valid_of_same_items: float | None  # only for damages of diversity
    others: Mapping[str, float]  # validity by the other quality evaluators: shown, but not checked
    others_ceiling: Mapping[str, float]

    def numbers(self) -> dict[str, float | str]:
        """The numbers of the row, for JSON and for the table in the docs."""
        return {
            "damage": self.name,
            "hurts": self.damage.hurts,
            "samples": self.samples,
            "valid": self.valid,
            "valid_of_ceiling": _share(self.valid, self.valid_ceiling),
            "mutual_recall": self.mutual_recall,
            "mutual_recall_of_ceiling": _share(self.mutual_recall, self.mutual_recall_ceiling),
            **{f"valid_by_{name}": value for name, value in self.others.items()},
        }

    def failures(self, milder: float | None) -> list[str]:
        """A list of failures: the evaluators did not react to the damage as they should.

        `milder` is the validity under the next milder damage.
        """
        found = []
        for what, value, ceiling, (low, high) in (
            ("validity", self.valid, self.valid_ceiling, self.damage.valid),
            ("mutual recall", self.mutual_recall, self.mutual_recall_ceiling, self.damage.mutual_recall),
        ):
            if not ceiling:
                found.append(f"{self.name}: {what} of the undamaged samples is 0, so no damage can be seen")
            elif not low * ceiling <= value <= high * ceiling:
                found.append(
                    f"{self.name}: {what} is {value:.3f}, not within {low:g} to {high:g} of the ceiling's "
                    f"{ceiling:.3f}"
                )
        if milder is not None and self.valid > milder - STEP:
            found.append(f"{self.name}: validity {self.valid:.3f} is not {STEP} below {milder:.3f}")
        # other batches give float32 features with other last bits, so one item may cross a border
        if (
            self.valid_of_same_items is not None
            and abs(self.valid - self.valid_of_same_items) > 1 / self.samples + 1e-12
        ):
            found.append(
                f"{self.name}: validity {self.valid} is not the same items' mean {self.valid_of_same_items}"
            )
        return found


def damage_matrix(
    domain: Domain,
    n: int = 2000,
    names: list[str] | None = None,
    roles: Mapping[str, str] | None = None,
    cache: Cache | None = None,
    reference: str | None = None,
    say: Callable[[str], object] = len,
) -> list[Row]:
    """Apply every damage of the domain to the ceiling's real samples and compare them with the reference.

    `roles` maps evaluators to roles, with at least one evaluator of each role; the default is the domain's
    own. `cache` holds features; None: the user's cache. `reference` names real samples of the user's; damages
    that they do not allow are told to `say`. Raises `BadInput` where there are fewer than `n` real samples.
    """
    check_samples(n, K, min(len(domain.reference(split, reference)) for split in ("test", "ceiling")))
    wanted = {name: damage for name, damage in domain.damages().items() if names is None or name in names}
    rows = []
    for name, damage in bar(wanted.items(), "damages", len(wanted)):
        try:
            rows.append(_row(domain, name, damage, n, roles, cache, reference))
        except Unsupported as error:
            say(f"left out: {name}: {error}")
    return rows


def secondary_evaluators(domain: Domain) -> dict[str, str]:
    """Evaluator -> role: the secondary evaluators, and the primary one of a role without any.

    Raises `BadInput` where the domain has no secondary evaluator.
    """
    found = dict(domain.second_evaluators())
    if not found:
        raise BadInput(f"domain {domain.name!r} has no secondary evaluators")
    return found | {name: role for name, role in domain.evaluators().items() if role not in found.values()}


def failures(rows: list[Row]) -> list[str]:
    """All damages that the evaluators did not detect as they should, one line each."""
    valid: dict[str | None, float] = {row.name: row.valid for row in rows}
    found = []
    for row in rows:
        milder = row.damage.milder
        found += row.failures(row.valid_ceiling if milder == "" else valid.get(milder))
    return found


def file_of(domain: Domain, rows: Sequence[Row], n: int, command: str) -> DamagesFile:
    """The content of `damages.json`: the results of `damage_matrix(domain, n)` and what they depend on."""
    panel = Panel(domain, n)
    return DamagesFile(
        domain=domain.name,
        samples=n,
        k=panel.k,
        reference=panel.reference_name,
        evaluators={name: evaluator.version for name, evaluator in panel.evaluators.items()},
        rows=[_saved(row) for row in rows],
        failures=failures(list(rows)),
        provenance=provenance(command, panel.device, {}),
    )


def _share(value: float, ceiling: float) -> float:
    """The share of the ceiling; 0 where the evaluators accept no real sample, either."""
    return value / ceiling if ceiling else 0.0


def _saved(row: Row) -> SavedRow:
    return SavedRow(
        name=row.name,
        hurts=row.damage.hurts,
        samples=row.samples,
        valid=row.valid,
        valid_share=_share(row.valid, row.valid_ceiling),
        mutual_recall=row.mutual_recall,
        mutual_recall_share=_share(row.mutual_recall, row.mutual_recall_ceiling),
    )


def _row(
    domain: Domain,
    name: str,
    damage: Damage,
    n: int,
    roles: Mapping[str, str] | None,
    cache: Cache | None,
    reference: str | None,
) -> Row:
    undamaged = domain.reference("ceiling", reference)[:n]
    with blamed(f"damage {name!r} of domain {domain.name!r}"):
        damaged = damage.apply(undamaged)
    if len(damaged) < K + 2:
        raise Unsupported(f"it leaves {len(damaged)} of these samples; {K + 2} are needed")
    panel = Panel(domain, len(damaged), roles=roles, reference=reference, cache=cache)
    quality = panel.primary["quality"]
    whole = panel.observe(undamaged, "undamaged samples", real=True)
    as_many = panel.verdicts(_first(whole, len(damaged)))
    ceiling = panel.metrics_of(whole, as_many)
    seen, same_items = panel.observe(damaged, "damaged samples"), None
    if damage.hurts == "variety":
        rows = _rows(undamaged, damaged)
        each = VERDICTS["quality"](
            panel.real.by_evaluator[quality], whole.by_evaluator[quality], panel.k
        ).items["valid"]
        same_items = float(each[rows].mean())
    verdicts = panel.verdicts(seen)
    found = panel.metrics_of(seen, verdicts)
    others = [name for name, role in panel.roles.items() if role == "quality" and name != quality]
    return Row(
        name,
        damage,
        len(damaged),
        found["quality_valid"],
        ceiling["quality_valid"],
        found["diversity_mutual_recall"],
        ceiling["diversity_mutual_recall"],
        same_items,
        {name: verdicts[name].metrics["valid"] for name in others},
        {name: as_many[name].metrics["valid"] for name in others},
    )


def _rows(undamaged: Samples, damaged: Samples) -> list[int]:
    """The position of each damaged item among the undamaged ones."""
    place = {content_digest([item]): i for i, item in enumerate(undamaged)}
    return [place[content_digest([item])] for item in damaged]


def _first(seen: SampleFeatures, n: int) -> SampleFeatures:
    return SampleFeatures(
        seen.samples[:n], {name: take(found, slice(n)) for name, found in seen.by_evaluator.items()}
    )


def take(some: Features, rows: list[int] | slice) -> Features:
    """The features of some samples only."""
    return Features(some.features[rows], None if some.surprisal is None else some.surprisal[rows])


def as_table(rows: list[Row]) -> str:
    """Markdown: the matrix of damages by evaluators. The numbers in brackets are shares of the ceiling."""
    from tabulate import tabulate

    lines: list[list[str]] = []
    for n in dict.fromkeys(row.samples for row in rows):
        first = next(row for row in rows if row.samples == n)
        intact = [
            f"{value:.3f}"
            for value in (first.valid_ceiling, first.mutual_recall_ceiling, *first.others_ceiling.values())
        ]
        lines.append(["none (other real samples)", "nothing", str(n), *intact])
    for row in rows:
        shares = _share(row.valid, row.valid_ceiling), _share(row.mutual_recall, row.mutual_recall_ceiling)
        lines.append(
            [
                row.name,
                row.damage.hurts,
                str(row.samples),
                f"{row.valid:.3f} ({shares[0]:.2f})",
                f"{row.mutual_recall:.3f} ({shares[1]:.2f})",
                *(
                    f"{value:.3f} ({_share(value, row.others_ceiling[name]):.2f})"
                    for name, value in row.others.items()
                ),
            ]
        )
    return tabulate(
        lines,
        headers=[
            "damage",
            "hurts",
            "N",
            "valid",
            "mutual recall",
            *(f"valid by {name}" for name in rows[0].others),
        ],
        tablefmt="pipe",
        disable_numparse=True,
    )
