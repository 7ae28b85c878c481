"""`bench describe` on the toy: one file a model, joined to the records item by item, or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.cli.main import main
from bench.errors import BadInput
from bench.interfaces import Domain, Samples
from bench.records.schema import Items, Record, read_records, records_in_place
from bench.registry import DOMAINS
from bench.runner import sweep
from bench.runner.describe import describe_model, rarity, traits_of
from bench.runner.recompute_costs import read_any
from bench.stats.model_file import ModelFile, out_of_date, read_models, rounded
from bench.stats.survivors import wilson

pytestmark = pytest.mark.usefixtures("toy_trains_once")

N, SEEDS = 500, (0, 1)
RUNGS = ("int3", "int2", "ternary")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of the toy, and its model.json, made by the command itself."""
    folder = tmp_path_factory.mktemp("results")
    sweep.run(
        sweep.Request("toy", methods=RUNGS, seeds=SEEDS, samples=N, results=folder, device="cpu"),
        lambda _: None,
    )
    assert main(["describe", "--domain", "toy", "--results", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def records(results: Path) -> list[Record]:
    return read_records(results)


@pytest.fixture(scope="module")
def described(results: Path) -> ModelFile:
    return read_models(results)["toy", "s@0"]


@pytest.fixture(scope="module")
def domain() -> Domain:
    """With one generator, since the toy trains whenever it is opened."""
    domain = DOMAINS.load("toy")()
    generator = domain.open(domain.models["s@0"])
    domain.open = lambda spec, device: generator
    return domain


@pytest.fixture
def copy(results: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(results, tmp_path / "results"))


def changed(records: list[Record], method: str, flip: int) -> list[Record]:
    """The records, with the first `flip` samples of a method's first seed scored otherwise: valid ones no
    longer, others now.
    """
    found = [r.model_copy(deep=True) for r in records]
    record = next(r for r in found if r.method == method and r.sample_seed == 0)
    if method == "none":
        flags = record.evaluators["position"].items["valid"].unpack()
        flags[:flip] ^= True
        record.evaluators["position"].items["valid"] = Items.pack(flags)
    else:
        outcomes = {name: items.unpack() for name, items in record.items.items()}
        before = outcomes["intact"] | outcomes["drifted"] | outcomes["degraded"]
        for name in ("intact", "drifted"):
            outcomes[name][:flip] = False
        outcomes["degraded"][:flip] = ~before[:flip]
        record.items.update({name: Items.pack(flags) for name, flags in outcomes.items()})
    return found


# --- the file -----------------------------------------------------------------------------------------


def test_the_file_says_what_the_model_is(described: ModelFile, records: list[Record]) -> None:
    assert described.weights_sha256 == records[0].weights_sha256
    assert (described.samples, described.k, described.sample_seeds, described.records) == (N, 5, [0, 1], 8)
    assert described.anatomy.parameters == 2594 and described.anatomy.samples_seen is None
    assert (
        described.anatomy.untouched_share == pytest.approx((48 + 48 + 2) / 2594, rel=1e-5)
        and described.anatomy.normalisation == {}
    )
    assert set(described.covariates) == {"surprisal", "rarity"} and set(described.survival) == set(RUNGS)


def test_the_file_carries_the_kinds_that_the_domain_declares(
    domain: Domain, records: list[Record], described: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (described.kind_of_data, described.kind_of_network) == ("", "")
    for member, word in (("kind_of_data", "points"), ("kind_of_network", "MLP")):
        monkeypatch.setattr(domain, member, word)
    file = describe_model(domain, "s@0", records, lambda _: None)
    assert (file.kind_of_data, file.kind_of_network) == ("points", "MLP")


def test_survival_is_what_the_records_say(described: ModelFile, records: list[Record]) -> None:
    for method in RUNGS:
        own = [r for r in records if r.method == method]
        degraded = sum(int(r.items["degraded"].unpack().sum()) for r in own)
        survived = sum(int(r.items[name].unpack().sum()) for r in own for name in ("intact", "drifted"))
        assert described.survival[method].overall.share == pytest.approx(
            wilson(survived, survived + degraded).share, rel=1e-5
        )
        by = described.survival[method].by
        assert by is not None, "the toy loses enough, and not all, at these rungs"
        for found in by.values():
            assert sum(share.count for share in found.survival) == survived + degraded
            assert found.auc is not None and 0 <= found.auc.low <= found.auc.value <= found.auc.high <= 1


def test_less_likely_points_of_the_toy_fail_first(described: ModelFile) -> None:
    """Points far from a centre are the first to leave the real ones' balls."""
    by = described.survival["int2"].by
    assert by is not None and by["surprisal"].auc is not None and by["surprisal"].auc.low > 0.5


def test_rungs_are_joined_item_by_item(described: ModelFile, records: list[Record]) -> None:
    assert [(step.milder, step.harsher) for step in described.ladder] == [
        ("int3", "int2"),
        ("int2", "ternary"),
    ]
    outcomes = {(r.method, r.sample_seed): r.items["degraded"].unpack() for r in records}
    both = sum(int((outcomes["int3", seed] & outcomes["int2", seed]).sum()) for seed in SEEDS)
    table = described.ladder[0].table
    assert table.failed_both == both
    valid = sum(
        int(r.evaluators["position"].items["valid"].unpack().sum()) for r in records if r.method == "none"
    )
    assert (
        table.failed_both + table.failed_milder_only + table.failed_harsher_only + table.failed_neither
        == valid
    )
    assert table.log_odds_ratio is not None and table.log_odds_ratio.low > 0


def test_equal_records_give_equal_bytes(domain: Domain, records: list[Record], results: Path) -> None:
    text = (results / "toy" / "s@0" / "model.json").read_text(encoding="utf-8")
    assert describe_model(domain, "s@0", records[::-1], print).text() == text
    assert ModelFile.model_validate_json(text).text() == text


def test_floats_are_short_and_lists_lie_on_one_line(results: Path) -> None:
    text = (results / "toy" / "s@0" / "model.json").read_text(encoding="utf-8")
    assert len(text) < 10_000 and all(len(line) <= 160 for line in text.splitlines())
    assert rounded({"a": [1 / 3, 2, True], "b": (1e-9 / 7, "x")}) == {
        "a": [0.333333, 2, True],
        "b": [1.42857e-10, "x"],
    }


# --- refusals -----------------------------------------------------------------------------------------


def test_a_baseline_that_cannot_be_made_again_is_refused(domain: Domain, records: list[Record]) -> None:
    with pytest.raises(BadInput, match=f"seed 0 are not those of its record: 6 of {N} flags"):
        describe_model(domain, "s@0", changed(records, "none", 6), print)


def test_a_baseline_of_other_floats_is_described(domain: Domain, records: list[Record]) -> None:
    assert describe_model(domain, "s@0", changed(records, "none", 1), print).survival


def test_twins_of_another_baseline_are_refused(domain: Domain, records: list[Record]) -> None:
    with pytest.raises(BadInput, match=f"twins of int3 seed 0 .* 6 of {N} flags"):
        describe_model(domain, "s@0", changed(records, "int3", 6), print)


def test_twins_of_a_baseline_of_other_floats_are_counted_but_for_those(
    domain: Domain, records: list[Record], described: ModelFile
) -> None:
    said: list[str] = []
    found = describe_model(domain, "s@0", changed(records, "int3", 5), said.append)
    assert len(said) == 1 and "int3" in said[0] and f"at most 5 of {N} a seed" in said[0]
    lost = sum(
        next(r for r in records if r.method == "none").evaluators["position"].items["valid"].unpack()[:5]
    )
    assert found.survival["int3"].overall.count == described.survival["int3"].overall.count - lost
    assert found.survival["int2"].overall.count == described.survival["int2"].overall.count


@pytest.mark.parametrize(
    ("field", "value"), [("weights_sha256", "0" * 64), ("sampler", {"steps": 9}), ("reference", "own:ab")]
)
def test_records_of_another_model_are_refused(
    domain: Domain, records: list[Record], field: str, value: Any
) -> None:
    with pytest.raises(BadInput, match=f"to another model: {field} is "):
        describe_model(domain, "s@0", [r.model_copy(update={field: value}) for r in records], print)


def test_a_refused_model_writes_nothing_and_fails(
    copy: Path, records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "toy" / "s@0" / "model.json").unlink()
    for path in copy.rglob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(content | {"weights_sha256": "0" * 64}), encoding="utf-8")
    assert main(["describe", "--domain", "all", "--results", str(copy)]) == 1
    assert "error: toy s@0: its records belong to another model" in capsys.readouterr().err
    assert read_models(copy) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--domain", "toy", "--model", "s@9"],
            "no records of model 's@9' in domain 'toy'; models with records: s@0",
        ),
        (["--domain", "nowhere"], "unknown domain 'nowhere'"),
    ],
)
def test_bad_input_is_named(
    results: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["describe", *arguments, "--results", str(results)]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["describe", "--domain", "all", "--results", str(tmp_path / "none")]) == 2
    assert main(["describe", "--domain", "all", "--results", str(tmp_path)]) == 2
    assert "no folder of records" in capsys.readouterr().err


# --- reading back -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    ["cut", "empty", "not JSON", "future", "foreign field", "a bin is missing", "not a number", "elsewhere"],
)
def test_a_damaged_file_is_named_skipped_and_left_as_it_is(copy: Path, damage: str) -> None:
    path = copy / "toy" / "s@0" / "model.json"
    text, content = path.read_text(encoding="utf-8"), json.loads(path.read_text(encoding="utf-8"))
    if damage == "a bin is missing":
        content["survival"]["int2"]["by"]["rarity"]["survival"].pop()
    broken = {
        "cut": text[: len(text) // 2],
        "empty": "",
        "not JSON": "\udcff",
        "future": json.dumps(content | {"schema_version": 99}),
        "foreign field": json.dumps(content | {"opinion": 1}),
        "a bin is missing": json.dumps(content),
        "not a number": text.replace(
            f'"samples_per_parameter": {json.dumps(None)}', '"samples_per_parameter": NaN'
        ),
        "elsewhere": json.dumps(content | {"model": "s@1"}),
    }[damage]
    path.write_bytes(broken.encode(errors="surrogateescape"))
    warnings: list[str] = []
    assert read_models(copy, warnings.append) == {}
    assert len(warnings) == 1 and str(path) in warnings[0] and "\n" not in warnings[0]
    assert path.read_bytes() == broken.encode(errors="surrogateescape")


def test_readers_of_records_pass_over_what_is_none(copy: Path, records: list[Record]) -> None:
    """Only where such files belong: a record's folder may have any name."""
    (copy / "toy" / "damages.json").write_text("{}", encoding="utf-8")
    warnings: list[str] = []
    assert read_records(copy, warnings.append) == records and warnings == []
    assert len(list(records_in_place(copy, warnings.append, read_any))) == len(records) and warnings == []
    for misplaced in ("toy/model.json", "toy/s@0/damages.json", "toy/s@0/int2/model.json"):
        (copy / misplaced).write_text("{}", encoding="utf-8")
    read_records(copy, warnings.append)
    assert len(warnings) == 3


def test_a_file_made_from_other_records_is_out_of_date(copy: Path, records: list[Record]) -> None:
    files = read_models(copy)
    assert out_of_date(files, records) == []
    assert (
        out_of_date(files, records[:-1])
        == out_of_date(files, [*records[:-1], records[-1].model_copy(update={"items": {}})])
        == [("toy", "s@0")]
    )


def test_a_users_own_files_are_not_the_published_ones(copy: Path) -> None:
    shutil.copytree(copy / "toy", copy / "local" / "toy")
    warnings: list[str] = []
    assert set(read_models(copy, warnings.append)) == {("toy", "s@0")} and warnings == []
    assert set(read_models(copy / "local")) == {("toy", "s@0")}


# --- covariates ---------------------------------------------------------------------------------------


def test_rarity_is_the_distance_to_the_kth_real_neighbour() -> None:
    real, samples = torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([[0.0], [6.0]])
    assert [rarity(samples, real, k, block=1).tolist() for k in (1, 2, 3)] == [[0, 1], [1, 3], [3, 5]]


class Odd:
    """A domain whose traits are whatever the test says."""

    name = "odd"

    def __init__(self, **traits: Any) -> None:
        self.traits = lambda samples: traits


@pytest.mark.parametrize("values", [np.arange(3), np.array([1.0, np.nan]), np.zeros((2, 1)), 7])
def test_a_trait_needs_one_value_for_each_sample(values: Any) -> None:
    with pytest.raises(
        BadInput, match="trait 'size' of domain 'odd' needs one finite number or label for each of 2 samples"
    ):
        traits_of(Odd(size=values), ["a", "b"], {})  # type: ignore[arg-type]


def test_a_trait_cannot_take_a_shared_name() -> None:
    with pytest.raises(BadInput, match="'rarity'"):
        traits_of(Odd(rarity=np.arange(2)), ["a", "b"], {"rarity": 0})  # type: ignore[arg-type]


def test_traits_of_texts_and_pictures() -> None:
    texts: Samples = ["in the beginning", "", "word"]
    assert DOMAINS.load("text")().traits(texts)["length"].tolist() == [3, 0, 1]
    from domains.images.data import CLASSES, part

    shipped = part("validation")[np.arange(200)]
    assert shipped.labels is not None
    found = DOMAINS.load("image_gan")().traits(shipped.pixels)["class"]
    assert np.mean(found == np.array(CLASSES)[shipped.labels]) > 0.8, (
        "the labeller knows nine of ten real garments"
    )


def test_labels_give_a_range(records: list[Record], domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        domain, "traits", lambda points: {"side": np.where(points[:, 0] > 0, "right", "left")}
    )
    found = describe_model(domain, "s@0", records, print)
    assert found.covariates["side"].labels == ("left", "right")
    by = found.survival["int3"].by
    assert by is not None and by["side"].auc is None and by["side"].labels is not None
    assert {by["side"].labels.lowest, by["side"].labels.highest} == {"left", "right"}
    assert ModelFile.model_validate_json(found.text()).text() == found.text()


def test_a_card_says_how_many_samples_were_seen() -> None:
    from domains.folders import samples_seen

    assert samples_seen({"verses_seen": 640000}) == samples_seen({"samples_seen": 640000}) == 640000
    for unclear in ({}, {"images_seen": "many"}, {"images_seen": True}, {"images_seen": 1, "verses_seen": 2}):
        assert samples_seen(unclear) is None
    assert DOMAINS.load("text")().models["s@0"].samples_seen == 640000
