"""Memory of the text evaluators is bounded, whatever the lengths of lines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from domains.language.strings import LONGEST
from domains.language.training import batches
from domains.text.adapter import TextDomain
from domains.text.data import verses
from domains.text.evaluators import Judge, Words

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("lengths", [[], [5], [900], [3, 1, 2, 700, 40, 5, 5, 900, 1], [2] * 300])
def test_batches_are_bounded_by_rows_and_tokens(lengths: list[int]) -> None:
    found = list(batches(lengths, 4, 100))
    assert sorted(i for rows in found for i in rows) == list(range(len(lengths)))
    sizes = [lengths[i] for rows in found for i in rows]
    assert sizes == sorted(sizes)
    for rows in found:
        assert len(rows) == 1 or (len(rows) <= 4 and len(rows) * max(lengths[i] for i in rows) <= 100)


def test_ordinary_batches_are_what_they_always_were() -> None:
    lengths = [len(text) for text in verses("test")]
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    expected = [order[at : at + 128] for at in range(0, len(order), 128)]
    assert list(batches(lengths, 128, 128 * 768)) == expected


def test_parts_of_logits_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, texts = Judge(), verses("validation")[:40]
    whole = judge._read(texts)
    monkeypatch.setattr("domains.language.judges.LOGITS_AT_ONCE", 40 * 20)
    parts = judge._read(texts)
    assert torch.equal(whole[0], parts[0]) and torch.equal(whole[1], parts[1])


def test_parts_of_word_tables_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    words, texts = Words(), [*verses("validation")[:40], ""]
    whole = words.means(texts)
    monkeypatch.setattr("domains.text.evaluators.WORDS_AT_ONCE", 100)
    assert torch.equal(whole, words.means(texts))


def test_only_the_beginning_of_a_long_text_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["short", "x" * LONGEST, "y" * (LONGEST + 1)]
    path = TextDomain().write_samples(texts, tmp_path / "long")
    assert TextDomain().read_samples(path) == ["short", "x" * LONGEST, "y" * LONGEST]
    assert f"1 of 3 texts of {str(path)!r} are longer than {LONGEST} characters" in capsys.readouterr().err
    halves = [TextDomain().reference(split, str(path)) for split in ("test", "ceiling")]
    assert sorted(text for half in halves for text in half) == ["short", "x" * LONGEST, "y" * LONGEST]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_text_of_440_000_characters_needs_less_than_2_gb(tmp_path: Path) -> None:
    long = " ".join(verses("train"))[:440_000]
    lines = [json.dumps({"text": text}) + "\n" for text in [*verses("validation")[:60], long]]
    (tmp_path / "mine.jsonl").write_text("".join(lines), encoding="utf-8")
    code = f"""
from pathlib import Path
from domains.text.adapter import TextDomain
domain = TextDomain()
samples = domain.read_samples(Path({str(tmp_path / "mine.jsonl")!r}))
for entry in domain.evaluator_table().values():
    if entry.use == "primary":
        assert entry.load("cpu").features(samples).isfinite().all()
for metric in domain.metrics().values():
    if metric.compute and metric.name != "judge_nll_gap":
        from bench.interfaces import SampleFeatures
        metric.compute(SampleFeatures(samples, {{}}), SampleFeatures(samples, {{}}))
# not ru_maxrss, which begins with the memory of the process that started this one
(peak,) = (line for line in open("/proc/self/status", encoding="utf-8") if line.startswith("VmHWM"))
print(int(peak.split()[1]) / 1e6)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) < 2.0, "GB"
