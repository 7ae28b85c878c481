"""The README's main job from an empty cache, in a process of its own: where do the seconds go?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("domain", ["text", "image_gan", "image_diffusion"])
def test_run_int8(benchmark, tmp_path: Path, domain: str) -> None:
    command = [sys.executable, "-m", "bench", "run", "--domain", domain, "--method", "int8"]
    command += ["--results", str(tmp_path / "results"), "--json"]
    environment = {**os.environ, "GENCOMPRESS_CACHE": str(tmp_path / "cache")}

    def job() -> str:
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, encoding="utf-8"
        ).stdout

    records = json.loads(benchmark.pedantic(job, rounds=1))
    stages: dict[str, float] = {}
    for record in records:
        for stage, seconds in record["provenance"]["seconds"].items():
            stages[stage] = round(stages.get(stage, 0.0) + seconds, 2)
    stages["start, imports, model, reference"] = round(benchmark.stats["min"] - sum(stages.values()), 2)
    benchmark.extra_info["seconds"] = stages
