"""How busy are the workers of a Ray cluster? `python -m scripts.studies.busy_workers`.

Real are: the driver, its order of tasks, the tasks, and the records, which are validated and written.
Simulated are: the cells, which sleep for the seconds that a published record took, scaled; and the cluster,
whose 64 workers are processes of this machine. The records are those of one model, as in a run. The clock
starts when all workers run. Real cells are longer than the scaled ones, so the share of the overhead is
smaller there.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.records.cell import Cell, cell_of
from bench.records.schema import Record, read_record
from bench.runner.cluster import Cluster, load_ray, measure_on_ray

RESULTS = Path(__file__).parents[2] / "results"
SEEDS = 50  # each has a baseline, which comes before its other cells


@dataclass(frozen=True)
class Sleeps:
    """Instead of a model: a cell takes its seconds, and gives the record of another one."""

    seconds: dict[str, float]  # by the cell's hash
    template: str

    def __call__(self) -> Callable[[Cell], Record]:
        made = Record.model_validate_json(self.template)

        def work(cell: Cell) -> Record:
            time.sleep(self.seconds[cell.hash])
            return made.model_copy(
                update={"cell": cell.hash, "method": cell.method, "sample_seed": cell.sample_seed}
            )

        return work


def published(model: str) -> list[Record]:
    """The published records of a model."""
    return [read_record(path) for path in sorted((RESULTS / model).glob("*/*.json"))]


def simulated(count: int, mean_s: float, records: list[Record], seed: int) -> list[tuple[Cell, float]]:
    """Cells with seconds that are drawn from the records and scaled to a mean; baselines from baselines."""
    rng, template = random.Random(seed), cell_of(records[0])
    took = {record.cell: sum(record.provenance.seconds.values()) for record in records}
    baselines, others = (
        [record for record in records if (record.method == "none") is wanted] for wanted in (True, False)
    )
    drawn = [rng.choice(baselines if number < SEEDS else others) for number in range(count)]
    scale = mean_s / statistics.fmean(took[record.cell] for record in drawn)
    mean, most = statistics.fmean(took.values()), max(took.values())
    print(f"published cells took {mean:.1f} s on average, {most:.0f} s at most")
    found = []
    for number, record in enumerate(drawn):
        method = "none" if number < SEEDS else f"{record.method}:{number}"
        cell = replace(template, method=method, sample_seed=number % SEEDS)
        found.append((cell, scale * took[record.cell]))
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cells", type=int, default=10_000)
    options.add_argument("--workers", type=int, default=64)
    options.add_argument("--mean-s", type=float, default=4.0, help="to which the durations are scaled")
    options.add_argument("--model", default="image_diffusion/xs@0", help="whose records are drawn")
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    records = published(given.model)
    ray = load_ray()
    ray.init(
        "local", num_cpus=given.workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    start = time.monotonic()
    warm = simulated(4 * given.workers, 2.0, records, given.seed)
    run(warm, records[0], given.workers)
    print(f"{given.workers} workers were started within {time.monotonic() - start:.0f} s")
    cells = simulated(given.cells, given.mean_s, records, given.seed)
    took, written = run(cells, records[0], given.workers)
    ray.shutdown()
    work = sum(seconds for _, seconds in cells)
    idle = given.workers * took - work
    print(f"{len(cells)} cells, mean {given.mean_s:g} s: {took:.1f} s, {written} records written")
    print(f"busy {work / (given.workers * took):.1%}; overhead {1000 * idle / len(cells):.1f} ms a cell")


def run(cells: list[tuple[Cell, float]], record: Record, workers: int) -> tuple[float, int]:
    """Measure the cells and write their records -> (seconds, records on disk)."""
    setup = Sleeps({cell.hash: seconds for cell, seconds in cells}, record.model_dump_json())
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        for cell, made in measure_on_ray([cell for cell, _ in cells], setup, Cluster(tasks=workers)):
            assert made is not None and made.cell == cell.hash
            made.write(Path(folder) / cell.method / f"{cell.hash[:16]}.json")
        return time.monotonic() - start, len(list(Path(folder).rglob("*.json")))


if __name__ == "__main__":
    main()
