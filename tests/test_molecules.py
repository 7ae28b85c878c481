"""The molecules domain: data, evaluators, chemistry and damages, without training anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import ladder

from bench.errors import BadInput
from bench.interfaces import SampleFeatures
from bench.methods.notation import LADDER
from bench.records.schema import read_records
from domains.molecules import chemistry, data
from domains.molecules.adapter import MoleculesDomain
from domains.molecules.damages import DAMAGES
from domains.molecules.evaluators import Judge
from domains.molecules.metrics import METRICS, tanimoto
from scripts.studies import molecules_published, molecules_truth

DOMAIN = MoleculesDomain()
ASPIRIN, PHENOL, OPEN_RING = "CC(=O)Oc1ccccc1C(=O)O", "Oc1ccccc1", "Oc1ccccc"
needs_extra = pytest.mark.skipif(bool(chemistry.missing()), reason=chemistry.HINT)
COMPUTED = {metric.name: metric.compute for metric in METRICS if metric.compute}


# ------------------------------------------------------------------------------------------------------- data


def test_parts_share_no_molecule_and_are_as_long_as_they_say() -> None:
    parts = [set(data.molecules(part)) for part in data.PARTS]
    assert [len(part) for part in parts] == [data.HELD_OUT] * 4 + [data.TRAINING]
    assert len(set().union(*parts)) == sum(map(len, parts))


def test_the_shipped_parts_are_in_hashed_order_and_the_training_part_is_sorted() -> None:
    for part in set(data.PARTS) - {"train"}:
        assert data.hashed(data.molecules(part)) == data.molecules(part)
    assert sorted(data.molecules("train")) == data.molecules("train")


def test_the_split_takes_the_first_of_a_hashed_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of files in any order; the training part is sorted."""
    monkeypatch.setattr(data, "PARTS", {"test": ("a", 0, 2), "ceiling": ("a", 2, 4), "train": ("b", 0, 3)})
    files = {"a": ["C", "CC", "CCC", "CCO", "CN"], "b": ["O", "N", "S"]}
    found = data.split(files)
    assert found["train"] == ["N", "O", "S"] and not set(found["test"]) & set(found["ceiling"])
    assert data.split({name: strings[::-1] for name, strings in files.items()}) == found


def test_rings_are_counted_without_a_parser() -> None:
    traits = DOMAIN.traits([ASPIRIN, "C1CC1C%10CC%10", "[13CH4]", ""])
    assert traits["rings"].tolist() == [1, 2, 0, 0] and traits["length"].tolist() == [21, 14, 7, 0]


# -------------------------------------------------------------------------------------------------- the extra


def test_without_the_extra_the_domain_is_listed_with_a_hint_and_refuses_in_one_line() -> None:
    code = (
        "import sys; sys.modules['rdkit'] = None\n"
        "from domains.molecules.adapter import MoleculesDomain\n"
        "from bench.errors import BadInput\n"
        "from bench.interfaces import SampleFeatures\n"
        "domain = MoleculesDomain(); print(domain.description)\n"
        "assert len(domain.reference()) == 5000 and 'torch' not in sys.modules\n"
        "for asks in (lambda: domain.open(None), lambda: domain.evaluator('chemnet'),\n"
        "    lambda: domain.damages()['one scaffold only'].apply(['C1CC1']),\n"
        "    lambda: domain.metrics()['valid_rdkit'].compute(SampleFeatures(['C'], {}), None)):\n"
        "    try: asks()\n"
        "    except BadInput as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    listed, *refused = done.stdout.splitlines()
    assert listed.endswith("(needs pip install -e '.[molecules]')")
    assert refused == ["the domain 'molecules' needs the package rdkit: pip install -e '.[molecules]'"] * 4


def test_without_the_extra_a_run_of_all_domains_leaves_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.runner.sweep import Request, _domains_of

    def names(model: str | None = None) -> set[str]:
        return {domain.name for domain in _domains_of(Request("all", model), print)}

    assert {"molecules", "text"} <= names("xs@0") and "molecules" not in names("m@0")
    monkeypatch.setattr(MoleculesDomain, "missing", classmethod(lambda cls: "needs the extra"))
    assert "molecules" not in names() | names("xs@0") and "text" in names()


# -------------------------------------------------------------------------------------------------- chemistry


@needs_extra
def test_rdkit_says_what_is_a_molecule_and_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    strings = [ASPIRIN, OPEN_RING, "C(C)(C)(C)(C)C", "", " ", "c1cccc1"]
    assert chemistry.is_valid(strings).tolist() == [True, False, False, False, False, False]
    assert capfd.readouterr() == ("", "")


@needs_extra
def test_what_rdkit_would_take_for_a_name_makes_no_molecule() -> None:
    """Damaged networks write any bytes, and RDKit reads on only as far as white space."""
    strings = [f"{PHENOL} junk", f"{PHENOL}\n", f" {PHENOL}", f"\x1c{PHENOL}", f"{PHENOL}\t|x|"]
    assert not chemistry.is_valid(strings).any() and chemistry.canonical(tuple(strings)) == ()


@needs_extra
def test_chemnet_is_that_of_fcd_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own class gives the same activations. It would load its file as a pickle: the test hands it in."""
    from fcd_torch import FCD, fcd

    network = chemistry.chemnet()
    monkeypatch.setattr(fcd.torch, "load", lambda path: None)
    monkeypatch.setattr(fcd, "load_imported_model", lambda config: network)
    monkeypatch.setattr(np, "row_stack", np.vstack, raising=False)  # numpy 2.5 has no such name any more
    strings = chemistry.canonical(tuple(data.molecules("test")[:5]))
    assert np.allclose(chemistry.activations(strings), FCD().get_predictions(list(strings)), atol=1e-6)


@needs_extra
def test_a_string_is_read_alone_and_odd_ones_are_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = ["", ".", "x\u4e2d" * 300, ASPIRIN]
    found = chemistry.activations(tuple(odd))
    assert np.isfinite(found).all()
    monkeypatch.setattr(chemistry, "KEPT", {})
    assert np.allclose(found[3], chemistry.activations((ASPIRIN,))[0], atol=1e-5)


@needs_extra
def test_chemnet_reads_a_string_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two strings that may stay, the one that was used last stays."""
    real, read = chemistry.symbols, []
    monkeypatch.setattr(chemistry, "KEPT", {})
    monkeypatch.setattr(chemistry, "MOST_KEPT", 2)
    monkeypatch.setattr(chemistry, "symbols", lambda string: [read.append(string), real(string)][1])
    first = chemistry.activations([PHENOL, ASPIRIN, PHENOL])
    assert read == [PHENOL, ASPIRIN] and (first[0] == first[2]).all() and (first[0] != first[1]).any()
    again = chemistry.activations([PHENOL, "CCO"])
    assert read == [PHENOL, ASPIRIN, "CCO"] and np.allclose(again[0], first[0])
    chemistry.activations([ASPIRIN, PHENOL])
    assert read[3:] == [ASPIRIN] and len(chemistry.KEPT) == 2


@needs_extra
def test_fingerprints_are_unit_vectors_and_zero_for_what_is_no_molecule() -> None:
    features = DOMAIN.evaluator("fingerprints").features([ASPIRIN, OPEN_RING, PHENOL])
    assert features.norm(dim=1).tolist() == pytest.approx([1, 0, 1], abs=1e-5)


@needs_extra
def test_similarity_is_shared_bits_over_all_bits() -> None:
    a, b = chemistry.fingerprints([ASPIRIN, PHENOL])
    expected = (a & b).sum() / (a | b).sum()
    found = tanimoto([ASPIRIN, PHENOL], [PHENOL])
    assert found[:, 0].tolist() == pytest.approx([expected, 1]) and 0 < expected < 1


@needs_extra
def test_metrics_by_hand() -> None:
    """Two samples are one molecule; one is no molecule."""
    generated = SampleFeatures([PHENOL, "c1ccc(O)cc1", ASPIRIN, OPEN_RING], {})
    real = SampleFeatures([PHENOL, ASPIRIN, "CCO"], {})
    found = {name: COMPUTED[name](generated, real) for name in COMPUTED if name != "fcd"}
    assert found["valid_rdkit"] == 0.75 and found["unique"] == pytest.approx(2 / 3)
    assert found["novelty"] == 1 and found["snn"] == 1
    known = SampleFeatures([data.molecules("train")[0], PHENOL], {})
    assert COMPUTED["novelty"](known, real) == 0.5
    similar = tanimoto([ASPIRIN], [PHENOL]).item()
    assert found["internal_diversity"] == pytest.approx(1 - (5 + 4 * similar) / 9)


@needs_extra
@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
def test_the_distance_is_that_of_fcd_torch() -> None:
    from fcd_torch import calculate_frechet_distance

    noise = np.random.default_rng(0)
    some, others = noise.normal(size=(50, 6)), noise.normal(0.5, 2, (40, 6))
    moments = [x for rows in (some, others) for x in (rows.mean(0), np.cov(rows.T))]
    assert chemistry.frechet(some, others) == pytest.approx(calculate_frechet_distance(*moments))


@needs_extra
def test_the_distance_of_chemnet_grows_with_damage() -> None:
    some, others = data.molecules("test")[:30], data.molecules("ceiling")[:30]
    simple = ["C" * (1 + i % 9) + "O" for i in range(30)]
    real = SampleFeatures(some, {})
    near, far = (COMPUTED["fcd"](SampleFeatures(strings, {}), real) for strings in (others, simple))
    assert COMPUTED["fcd"](real, real) == pytest.approx(0, abs=1e-3) and near < far


@needs_extra
def test_no_molecule_at_all_has_no_value_but_validity() -> None:
    none, real = SampleFeatures([OPEN_RING, ""], {}), SampleFeatures([PHENOL], {})
    values = {name: compute(none, real) for name, compute in COMPUTED.items()}
    assert values.pop("valid_rdkit") == 0 and all(np.isnan(value) for value in values.values())


# ------------------------------------------------------------------------------------------------------ judge


def test_the_surprisal_is_that_of_the_two_characters_that_cost_most() -> None:
    """Padding does not count: a string of one token has the same alone and beside longer ones."""
    judge = Judge.__new__(Judge)
    nats = torch.tensor([[1.0, 5.0, 3.0], [2.0, 0.0, 0.0]])
    assert judge.of_text(nats, (nats > 0).float()).tolist() == [4, 2]
    assert judge.of_text(nats[1:, :1], torch.ones(1, 1)).tolist() == [2]


# ---------------------------------------------------------------------------------------------------- damages


@needs_extra
def test_damages_do_what_their_names_say() -> None:
    whole = data.molecules("ceiling")[:200]
    for name in ("one ring digit dropped", "one bracket dropped"):
        cut = DAMAGES[name].apply(whole)
        assert {len(a) - len(b) for a, b in zip(whole, cut)} <= {0, 1}
        assert chemistry.is_valid(cut).mean() < 0.1
    shares = [chemistry.is_valid(DAMAGES[f"atoms replaced {s} %"].apply(whole)).mean() for s in (5, 10, 20)]
    assert 1 > shares[0] > shares[1] > shares[2]
    assert all(sorted(a) == sorted(b) for a, b in zip(whole, DAMAGES["characters shuffled"].apply(whole)))
    kept = DAMAGES["one scaffold only"].apply(whole)
    assert 3 < len(kept) < 100 and set(chemistry.scaffolds(tuple(kept))) == {"c1ccccc1"}


@needs_extra
def test_molecules_without_rings_have_no_scaffold_to_keep() -> None:
    assert chemistry.scaffolds((ASPIRIN, "CCO", OPEN_RING)) == ("c1ccccc1", "", "")
    assert DAMAGES["one scaffold only"].apply(["CCO", "CC", OPEN_RING]) == []


# -------------------------------------------------------------------------------------------------- training


def test_a_training_starts_and_its_model_opens(tmp_path: Path) -> None:
    """Of a user's own strings: the shipped part would take a minute to encode."""
    source = tmp_path / "own.txt"
    source.write_text("\n".join(data.molecules("train")[:3000:10]), encoding="utf-8")
    training = DOMAIN.train("xs@0", str(source), "cpu")
    training.shorten(2)
    for _ in range(2):
        training.step()
    training.freeze(tmp_path / "model")
    if chemistry.missing():
        with pytest.raises(BadInput, match="needs the package"):
            DOMAIN.open(DOMAIN.locate(str(tmp_path / "model")))
        return
    spec = DOMAIN.locate(str(tmp_path / "model"))
    assert (spec.train_seed, spec.samples_seen) == (0, 2 * 32)
    generator = DOMAIN.open(spec)
    twins = [generator.sample(generator.network, n, 0) for n in (3, 5)]
    assert twins[0] == twins[1][:3] and generator.settings()["max_tokens"] == 64


def test_size_m_is_not_of_the_published_grid_and_can_be_trained() -> None:
    assert DOMAIN.grid() == ("s@0", "s@1", "s@2", "xs@0", "xs@1", "xs@2")
    assert DOMAIN.training_table()["m"].published_seeds == ()


# ---------------------------------------------------------------------------------------------------- studies


def test_judges_and_rdkit_rank_methods_of_equal_noise() -> None:
    kept = (1.0, 0.9, 0.8, 0.7, 0.5, 0.3, 0.2, 0.1)
    shares = {"none": 0.9, **{rung: 0.9 * k * k for rung, k in zip(LADDER, kept)}}
    records = [
        r.model_copy(update={"cell": f"{i:064x}", "metrics": {**r.metrics, "valid_rdkit": shares[r.method]}})
        for i, r in enumerate(ladder("molecules", quality=kept))
    ]
    some = next(r for r in records if r.method == "int4")
    assert molecules_truth.kept_by_rdkit(some, records) == pytest.approx(0.49)
    lost = some.model_copy(update={"status": "diverged", "metrics": {}})
    assert molecules_truth.kept_by_rdkit(lost, records) == 0
    alone = [r for r in records if r.method != "none"]
    assert molecules_truth.kept_by_rdkit(some, alone) is None
    (line,) = molecules_truth.rank_table(records).splitlines()[2:]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:2] == ["judge", "8"] and cells[2].startswith("1.00 [") and cells[4] == "1.000"
    assert "`int3`" in cells[5] or "`int4`" in cells[5], "where k - k * k is largest"


@needs_extra
def test_published_figures_are_of_the_molecules_alone_and_of_both_test_parts() -> None:
    real = object.__new__(molecules_published.Real)
    real.training = frozenset([PHENOL])
    real.activations = [chemistry.activations((PHENOL, ASPIRIN)), chemistry.activations((PHENOL, "CCO"))]
    real.fingerprints = [molecules_published.packed([PHENOL, ASPIRIN]), molecules_published.packed([PHENOL])]
    title, count, valid, unique, fcd, far, near, scaffolds, diversity, novel = molecules_published.row(
        "ours", [PHENOL, ASPIRIN, OPEN_RING, PHENOL], real
    )
    assert (title, count, valid, unique) == ("ours", "4", "0.750", "0.667")
    assert 0 <= float(fcd) < float(far), "the second part holds another molecule"
    similar = tanimoto([ASPIRIN], [PHENOL]).item()
    assert near == "1.000" and float(scaffolds) == pytest.approx((2 + similar) / 3, abs=6e-4)
    assert float(diversity) == pytest.approx(1 - (5 + 4 * similar) / 9, abs=6e-4)
    assert novel == "0.500"


def test_the_page_shows_the_measured_truth() -> None:
    """And the matrix that `damages --save` wrote holds the same recall."""
    found = json.loads(molecules_truth.FILE.read_text(encoding="utf-8"))
    page = molecules_truth.PAGE.read_text(encoding="utf-8")
    records = read_records(molecules_truth.ROOT / "results")
    assert page == molecules_truth.filled(page, found, records), "run `molecules_truth tables`"
    saved = json.loads((molecules_truth.ROOT / "results/molecules/damages.json").read_text(encoding="utf-8"))
    recall = {row["name"]: (row["mutual_recall"], row["samples"]) for row in saved["rows"]}
    assert recall == {name: (row["chemnet"][0], row["samples"]) for name, row in found["recall"].items()}


def test_sensitivity_is_of_wrong_strings_and_specificity_of_right_ones() -> None:
    right, accepted = np.array([True, True, True, False, False]), np.array([True, True, False, True, False])
    found = molecules_truth.agreement_of(right, accepted)
    assert found == {"accepted": 0.6, "sensitivity": 0.5, "specificity": pytest.approx(2 / 3)}
    assert molecules_truth.agreement_of(right[:3], accepted[:3])["sensitivity"] is None
    assert molecules_truth.agreement_of(~right[:3], accepted[:3])["specificity"] is None
