"""Loads a user's own metric: an installed one, a folder with an `evaluate` metric script, or a hub name if
the user allows remote code.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from bench.errors import BadInput, in_a_line
from bench.interfaces import Metric, SampleFeatures
from bench.registry import METRICS


def load_metric(name: str, trust_remote_code: bool = False) -> Metric:
    """Load an installed `Metric` or an `evaluate.Metric`. Its numbers enter the record's metrics.

    An installed one has an entry point of the group `gencompress.metrics`. A folder holds `<folder name>.py`.
    A hub name runs code from the hub, so it is refused without `trust_remote_code`. Raises `BadInput` when
    the metric cannot be loaded.
    """
    if name in METRICS:
        return _installed(name)
    folder = Path(name)
    script = folder / f"{folder.resolve().name}.py" if folder.is_dir() else folder
    is_script = script.suffix == ".py" and script.is_file()  # `evaluate` asks the hub for any other name
    if not is_script and not trust_remote_code:
        raise BadInput(
            f"metric {name!r} is not a script, nor a folder that holds {folder.name}.py, nor an installed "
            f"metric ({', '.join(sorted(METRICS)) or 'none'}); a hub name needs --trust-remote-code"
        )
    import evaluate

    try:
        metric = evaluate.load(str(script.resolve()) if is_script else name, keep_in_memory=True)
    except Exception as error:
        raise BadInput(f"metric {name!r} cannot be loaded: {in_a_line(error)}") from None
    title = metric.name

    def compute(generated: SampleFeatures, real: SampleFeatures) -> float:
        references = list(real.samples[: len(generated.samples)])
        found = metric.compute(predictions=list(generated.samples), references=references)
        return float(found[title] if title in found else next(iter(found.values())))

    # the version is part of the cell's hash, so another script gives another cell
    version = int(hashlib.sha256(script.read_bytes()).hexdigest()[:8], 16) if is_script else 1
    return Metric(title, metric.description.strip().split("\n")[0], "none", compute=compute, version=version)


def _installed(name: str) -> Metric:
    """The metric of an entry point. Raises `BadInput` where it is none."""
    metric = METRICS.load(name)
    if not isinstance(metric, Metric) or metric.compute is None:
        raise BadInput(
            f"metric {name!r} ({METRICS[name]}) is no Metric with `compute`: see `bench check {name}`"
        )
    return metric
