"""Data or network? The contrasts of made-up domains whose truth is known, and what the pages say of them."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import domain, ladder, model
from test_complete import GRID, cells, sized, twice_judged

from bench.contracts.contract import Broken
from bench.contracts.domain import its_kinds_are_words
from bench.records.schema import Record
from bench.registry import DOMAINS
from bench.report.contrasts import data_or_network, short_answer
from bench.report.details import details_page
from bench.report.figures import two_way
from bench.report.headline import headline
from bench.report.report_data import ReportData, report_data
from bench.report.verdict import ClaimContext, claim_context, with_secondary
from bench.stats.comparison import compare
from bench.stats.contrasts import (
    Component,
    Contrast,
    Kinds,
    by_kinds,
    components,
    contrasts_of,
    kinds_of,
    shares,
    variance_range,
)
from bench.stats.domain import Domain, domains_of
from bench.stats.model_file import ModelFile, read_models
from domains.image_diffusion.adapter import DiffusionDomain
from domains.image_gan.adapter import GanDomain
from domains.image_tokens.adapter import TokensDomain
from domains.molecules.adapter import MoleculesDomain
from domains.text.adapter import TextDomain
from scripts.studies.simulation import Scenario, made_up_domain, true_retention

ROOT = Path(__file__).parent.parent
FIVE = {
    "pixels_gan": Kinds("images", "GAN"),
    "pixels_unet": Kinds("images", "U-Net"),
    "pixels_lm": Kinds("images", "transformer"),
    "words": Kinds("text", "transformer"),
    "molecules_lm": Kinds("molecules", "transformer"),
}
BOTH = contrasts_of(FIVE)
Kept = Mapping[str, float]  # kind -> retention at all rungs


def kept_by(what: str, kept: Kept) -> dict[str, float]:
    """Domain -> retention that depends on its data alone, or on its network alone."""
    return {name: kept.get(getattr(kinds, what), 0.6) for name, kinds in FIVE.items()}


NETWORK_MATTERS = kept_by("network", {"GAN": 0.95, "U-Net": 0.3})
DATA_MATTER = kept_by("data", {"text": 0.95, "molecules": 0.3})
OTHERS_ARE_SAID_TO_MATTER = {**NETWORK_MATTERS, "words": 0.95, "pixels_unet": 0.95}


def compared(kept: Kept, secondary: Kept | None = None, seeds: int = 3) -> ReportData:
    """Five domains whose training seeds differ by .01 of retention."""

    def domains(of: Kept) -> list[Domain]:
        models = [
            model(name, f"s@{i}", value + 0.01 * i, value + 0.01 * i)
            for name, value in of.items()
            for i in range(seeds)
        ]
        return domains_of(models)

    made = claim_context([m for d in domains(kept) for m in d.models], {})
    now = with_secondary(made, None if secondary is None else domains(secondary))
    return ReportData([], [], {}, now, now, kinds=FIVE)


# ---------------------------------------------------------------------------------------- who shares what


def test_a_contrast_shares_one_kind_and_differs_in_the_other() -> None:
    data, network = BOTH
    assert (data.shared, data.word, [*data.words]) == (
        "data",
        "images",
        ["pixels_gan", "pixels_lm", "pixels_unet"],
    )
    assert (network.shared, network.word) == ("network", "transformer")
    assert network.words == {"molecules_lm": "molecules", "pixels_lm": "images", "words": "text"}
    assert data.has("pixels_gan", "pixels_lm") and not data.has("pixels_gan", "words")


def test_a_domain_that_declares_less_or_differs_in_nothing_makes_no_contrast() -> None:
    assert contrasts_of({"a": Kinds("images", "GAN"), "b": Kinds("text", "transformer")}) == []
    assert contrasts_of({"a": Kinds("images", "GAN"), "b": Kinds("images"), "c": Kinds()}) == []
    assert contrasts_of({"a": Kinds("images", "GAN"), "b": Kinds("images", "GAN")}) == []
    (three,) = contrasts_of({n: Kinds("images", w) for n, w in (("a", "GAN"), ("b", "GAN"), ("c", "VAE"))})
    assert three.has("a", "c") and not three.has("a", "b"), "two of the same network"
    assert [three.label(name) for name in "abc"] == ["GAN (a)", "GAN (b)", "VAE"]


def test_the_domains_of_this_package_declare_the_two_contrasts() -> None:
    ours = (GanDomain, DiffusionDomain, TokensDomain, TextDomain, MoleculesDomain)
    found = contrasts_of({one.name: Kinds(one.kind_of_data, one.kind_of_network) for one in ours})
    assert [(c.shared, c.word, {*c.words}) for c in found] == [
        ("data", "images", {"image_gan", "image_diffusion", "image_tokens"}),
        ("network", "transformer", {"text", "image_tokens", "molecules"}),
    ]


@functools.cache
def published() -> ModelFile:
    return next(iter(read_models(ROOT / "results").values()))


def file_of(name: str, data: str = "", network: str = "") -> ModelFile:
    return published().model_copy(update={"domain": name, "kind_of_data": data, "kind_of_network": network})


def test_kinds_of_a_domain_that_is_not_installed_come_from_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {("away", "s@0"): file_of("away"), ("away", "s@1"): file_of("away", "images", "VAE")}
    files |= {("toy", "s@0"): file_of("toy", "dots", "MLP")}
    assert kinds_of(["away", "toy", "none"], files) == {
        "away": Kinds("images", "VAE"),
        "toy": Kinds("dots", "MLP"),
        "none": Kinds(),
    }
    kind = DOMAINS.load("toy")
    monkeypatch.setattr(kind, "kind_of_data", "points")
    monkeypatch.setattr(kind, "kind_of_network", "MLP")
    assert kinds_of(["toy"], files) == {"toy": Kinds("points", "MLP")}, "what is installed says it last"


def test_older_files_declare_nothing_and_can_be_read() -> None:
    text = file_of("away", "images", "VAE").text()
    old = "\n".join(line for line in text.splitlines() if "kind_of_" not in line)
    assert len(old) < len(text)
    assert ModelFile.model_validate_json(text).kind_of_network == "VAE"
    assert ModelFile.model_validate_json(old) == file_of("away")


@pytest.mark.parametrize("word", [None, 3, " images", "two\nlines", "x" * 25])
def test_a_kind_is_a_short_word(word: object) -> None:
    kind = DOMAINS.load("toy")
    its_kinds_are_words(kind())
    its_kinds_are_words(
        type("Good", (kind,), {"kind_of_data": "images", "kind_of_network": "diffusion U-Net"})()
    )
    with pytest.raises(Broken, match="its kind_of_data is"):
        its_kinds_are_words(type("Bad", (kind,), {"kind_of_data": word})())


# -------------------------------------------------------------------------------------------------- sentences


def said(found: ReportData) -> tuple[str, str]:
    """What is said of the same data, and of the same network."""
    lines = "\n".join(data_or_network(found)).splitlines()
    data, network = (line for line in lines if line.startswith("- With the same"))
    return data, network


def test_where_the_network_matters_and_the_data_does_not() -> None:
    data, network = said(compared(NETWORK_MATTERS))
    assert data == (
        "- With the same data (images), C is larger with the GAN than with the transformer and the "
        "U-Net, in quality and in diversity. It is larger with the transformer than with the U-Net, in "
        "quality and in diversity."
    )
    assert network.startswith(
        "- With the same network (transformer), no difference is shown: C may differ by up to 0.0"
    )


def test_where_the_data_matter_and_the_network_does_not() -> None:
    data, network = said(compared(DATA_MATTER))
    assert data.startswith("- With the same data (images), no difference is shown: C may differ by up to 0.0")
    assert "C is larger on text than on images and molecules, in quality and in diversity." in network
    assert "It is larger on images than on molecules, in quality and in diversity." in network


def test_what_is_open_is_said_with_how_large_it_may_be_by_either_evaluators() -> None:
    """One of three networks is behind. Both limits are ends of intervals, by whichever evaluators they are
    wider.
    """
    kept = {**NETWORK_MATTERS, "pixels_lm": 0.95}
    apart = {**kept, "pixels_gan": 0.97}
    found = compared(kept, apart)
    data, _ = said(found)
    wide = [c for c in compare(found.now.second_domains) if {c.a, c.b} == {"pixels_gan", "pixels_lm"}]
    assert wide[0].difference is not None
    limit = f"{wide[0].difference.widest:.3f}"
    assert data.endswith(
        f". The other pair is undecided: its C may differ by up to {limit} in quality and {limit} in "
        "diversity (95 % intervals)."
    )
    assert f"up to {limit}" not in said(compared(kept, kept))[0]


def test_a_difference_that_one_set_of_evaluators_shows_is_not_claimed() -> None:
    one_sided = []
    for first, second in (
        (NETWORK_MATTERS, DATA_MATTER),
        (DATA_MATTER, NETWORK_MATTERS),
        (NETWORK_MATTERS, kept_by("network", {"GAN": 0.3, "U-Net": 0.95})),
    ):
        text = " ".join(said(compared(first, second)))
        claimed, *alone = re.split(r"By the (?:primary|secondary) evaluators alone, C is [^.]*\.", text)
        assert "larger" not in "".join([claimed, *alone]) and text.count("no difference is shown") == 2
        one_sided.append(bool(alone))
    assert one_sided == [True, True, False], "opposite results are no one-sided ones"
    assert "larger" in " ".join(said(compared(NETWORK_MATTERS, NETWORK_MATTERS)))


def test_without_a_second_training_seed_nothing_is_tested() -> None:
    found = compared(NETWORK_MATTERS, seeds=1)
    assert said(found) == (
        "- With the same data (images), no test is possible.",
        "- With the same network (transformer), no test is possible.",
    )
    assert "variance" not in "\n".join(data_or_network(found))


def test_tests_are_those_of_the_ranking() -> None:
    """So that no pair is claimed in one section and open in another."""
    found = compared(NETWORK_MATTERS, NETWORK_MATTERS)
    text = "\n".join(data_or_network(found))
    rows = [row for row in cells(text) if row[0].startswith(("data: ", "network: "))]
    assert [(row[0], row[2]) for row in rows].count(("data: images", "quality")) == 3
    assert [(row[0], row[2]) for row in rows].count(("network: transformer", "diversity")) == 3
    known = {(f"{c.a} - {c.b}", c.role): c for c in found.now.comparisons}
    for row in rows:
        c = known[row[1], row[2]]
        assert c.p is not None and (row[5] == "below 0.001" or float(row[5]) == pytest.approx(c.p, abs=6e-4))


# ------------------------------------------------------------------------------------------------- simulation

CURVES: dict[str, dict[str, str]] = {  # truth -> domain -> curve of `scripts.studies.simulation`
    "network": {"pixels_gan": "near 1", "pixels_unet": "cliff"},
    "data": {"words": "near 1", "molecules_lm": "cliff"},
}
SCENARIO = Scenario("five", ("slope", "slope"), 0.02, 3, items=200, sampling_seeds=2)


def study(truth: str, seed: int) -> tuple[list[Domain], dict[tuple[str, str], float]]:
    """Five measured domains -> with the true C by domain and role."""
    rng = np.random.default_rng(seed)
    domains, true = [], {}
    for name in FIVE:
        curve = CURVES[truth].get(name, "slope")
        made, _ = made_up_domain(SCENARIO, curve, rng)
        domains.append(replace(made, name=name))
        for role in ("quality", "diversity"):
            true[name, role] = true_c(curve, role)
    return domains, true


KNOWN: dict[tuple[str, str], float] = {}


def true_c(curve: str, role: str) -> float:
    if (curve, role) not in KNOWN:
        KNOWN[curve, role] = true_retention(SCENARIO, curve, role, draws=401)[1]
    return KNOWN[curve, role]


@pytest.mark.parametrize("truth", ["network", "data"])
def test_intervals_hold_the_truth_and_sentences_follow_it(truth: str) -> None:
    """12 studies of 12 pairs and roles. At 95 %, 7 of 144 intervals would miss; false claims are Holm's 5 %
    of studies.
    """
    held, false, found_out = 0, 0, 0
    for seed in range(12):
        domains, true = study(truth, seed)
        now = ClaimContext(domains, compare(domains), {})
        for c in [c for c in now.comparisons if any(one.has(c.a, c.b) for one in BOTH)]:
            gap = true[c.a, c.role] - true[c.b, c.role]
            assert c.difference is not None
            held += c.difference.low <= gap <= c.difference.high
            false += c.shown and gap == 0
            found_out += c.shown and gap > 0.1
        found = ReportData([], [], {}, now, now, kinds=FIVE)
        data, network = said(found)
        first, second = (data, network) if truth == "network" else (network, data)
        assert "larger" in first and ("no difference is shown" in second or false)
    assert held >= 0.93 * 144 and false <= 1 and found_out >= 0.5 * 36


# ------------------------------------------------------------------------------------- components of variance


def test_components_are_what_one_computes() -> None:
    """C of a constant retention R is (1 + R) / 2 over two halvings and R over two: 1/4 + 3/4 R."""
    made = [
        domain(name, {"quality": [v, v - 0.1], "diversity": [v, v]}) for name, v in NETWORK_MATTERS.items()
    ]
    found = components(made, BOTH, "quality")
    within = 0.75**2 * 0.1**2 / 2
    between = 0.75**2 * float(np.var([0.95, 0.6, 0.3], ddof=1)) - within / 2
    assert found["networks"] == Component(pytest.approx(between), 2)
    assert found["data"] == Component(0.0, 2), "below the error of the means: at least 0"
    assert found["training seeds"] == Component(pytest.approx(within), 5)
    assert found["sizes"] is None
    known = shares(found)
    assert known["networks"] == pytest.approx(between / (between + within)) and known["data"] == 0.0
    diversity = components(made, BOTH, "diversity")
    assert shares(diversity)["networks"] == 1.0 and diversity["training seeds"] == Component(0.0, 5)


def test_sizes_are_a_component_of_their_own() -> None:
    units = [(model("d", f"s@{i}", 0.8), model("d", f"xs@{i}", 0.4)) for i in range(2)]
    one = Domain("d", tuple(m for unit in units for m in unit), tuple(units))
    found = components([one], [], "quality")
    assert found == {
        "networks": None,
        "data": None,
        "sizes": Component(pytest.approx(0.75**2 * 0.4**2 / 2), 1),
        "training seeds": Component(pytest.approx(0.0), 2),
    }
    assert components([], BOTH, "quality") == dict.fromkeys(found), "nothing is known of nothing"
    assert shares(dict.fromkeys(found)) == dict.fromkeys(found)


def test_components_of_many_studies_are_those_of_the_truth() -> None:
    """Moments have no bias: over 12 studies the mean component is that of the true scores."""
    found = [components(study("network", seed)[0], BOTH, "quality") for seed in range(12)]
    _, true = study("network", 0)
    wanted = np.var([true[name, "quality"] for name in BOTH[0].words], ddof=1)
    measured = np.mean([one["networks"].variance for one in found if one["networks"]])
    assert measured == pytest.approx(wanted, rel=0.2)
    assert np.mean([one["data"].variance for one in found if one["data"]]) < 0.02 * wanted


def test_a_variance_of_few_values_is_hardly_known() -> None:
    """Quantiles of chi squared with two degrees of freedom: -2 ln(.025) and -2 ln(.975)."""
    low, high = variance_range(2)
    assert low == pytest.approx(2 / (-2 * np.log(0.025))) and high == pytest.approx(2 / (-2 * np.log(0.975)))
    text = "\n".join(data_or_network(compared(NETWORK_MATTERS)))
    assert "A variance from 2 degrees of freedom is known to within 0.27 to 39 times" in text
    assert "4 of 9 pairs of data and network are not measured." in text
    (row,) = (row for row in cells(text) if row[0] == "networks")
    assert row[1:3] == ["2", "0.244"], "of .75 * (.95, .6, .3)"


# ------------------------------------------------------------------------------------------------------ pages


def measured(kept: Kept, names: Sequence[str], models: Sequence[str]) -> list[Record]:
    found = []
    for name in names:
        for i, at in enumerate(models):
            found += ladder(name, at, kept[name] + 0.01 * (i % 3), kept[name] + 0.01 * (i % 3), seeds=(0,))
    return twice_judged(sized(found))


def written(records: Sequence[Record], kinds: Mapping[str, Kinds]) -> tuple[str, str]:
    """The first page and the page of details, with files `model.json` that declare these kinds."""
    files = {(name, "s@0"): file_of(name, one.data, one.network) for name, one in kinds.items()}
    found = report_data(records, files)
    return "\n".join(headline(found, "d.md")), details_page(found, "leaderboard.md")


def silent(kinds: Mapping[str, Kinds]) -> dict[str, Kinds]:
    return dict.fromkeys(kinds, Kinds())


@pytest.fixture(scope="module")
def five() -> list[Record]:
    return measured(NETWORK_MATTERS, tuple(FIVE), ("s@0", "s@1", "s@2"))


def test_the_first_page_has_one_sentence_where_both_are_contrasted(
    five: list[Record], tmp_path: Path
) -> None:
    first, details = written(five, FIVE)
    (line,) = (line for line in first.splitlines() if "Data or network?" in line)
    assert line.startswith(
        "**Data or network?** With the same data (images), C is larger with the GAN than with the "
        "transformer and the U-Net, in quality and in diversity. It is larger"
    )
    assert " With the same network (transformer), no difference is shown: C may differ by up to 0.0" in line
    assert line.endswith(" ([details](d.md#data-or-network))")
    assert "Rows with the same data differ in network" in first
    assert details.count("## Data or network?") == 1 and "**Where does the variance of C lie?**" in details
    assert len(details.split("## Data or network?")[1].split("\n## ")[0].splitlines()) < 60


def test_a_network_that_no_method_compresses_is_named(five: list[Record]) -> None:
    """It stands beside the answer of the first page, and in the section of the details."""
    with_codec = [
        r.model_copy(update={"sampler": {**r.sampler, "companion": "codec"}}) if r.domain == "words" else r
        for r in five
    ]
    sentence = "The codec of words is never compressed, and no ratio counts it."
    for records, named in ((with_codec, True), (five, False)):
        assert all((sentence in page) == named for page in written(records, FIVE))


def test_one_contrast_alone_stays_on_the_page_of_details(five: list[Record]) -> None:
    kinds = {name: FIVE[name] for name in ("pixels_gan", "pixels_unet", "words")}
    three = [r for r in five if r.domain in kinds]
    plain, short = written(three, silent(kinds))
    first, details = written(three, kinds)
    assert first == plain and "## Data or network?" in details
    section = details.split("## Data or network?")[1].split("\n## ")[0]
    assert "variance of C" not in section and "same network" not in section
    assert details.replace(f"## Data or network?{section}\n", "") == short


def test_without_a_contrast_no_page_changes(five: list[Record]) -> None:
    apart = {name: FIVE[name] for name in ("pixels_gan", "words")}
    two = [r for r in five if r.domain in apart]
    assert written(two, silent(apart)) == written(two, apart)
    assert "network?" not in "".join(written(two, apart))


def test_a_domain_that_waits_is_in_no_contrast() -> None:
    images = measured(NETWORK_MATTERS, [name for name, kinds in FIVE.items() if kinds.data == "images"], GRID)
    less = [r for r in images if (r.domain, r.model) != ("pixels_lm", "s@2")]
    found = report_data(less, {(name, "s@0"): file_of(name, k.data, k.network) for name, k in FIVE.items()})
    assert [*found.waiting] == ["pixels_lm"]
    assert [(c.shared, {*c.words}) for c in found.contrasts] == [("data", {"pixels_gan", "pixels_unet"})]


def test_a_cell_holds_each_of_its_domains() -> None:
    found = compared(NETWORK_MATTERS)
    kinds = {**FIVE, "pixels_unet": Kinds("images", "GAN")}
    of_kinds = by_kinds(found.now.domains, kinds)
    assert [d.name for d in of_kinds["images", "GAN"]] == ["pixels_gan", "pixels_unet"]
    lines = cells("\n".join(data_or_network(replace(found, kinds=kinds))))
    (row,) = (row for row in lines if row[:2] == ["images", "quality"])
    assert "; " in row[2] and [cell.count("[") for cell in row[2:]] == [2, 1]


def test_the_picture_has_a_panel_for_each_role(five: list[Record], tmp_path: Path) -> None:
    for name, one in FIVE.items():
        file = file_of(name, one.data, one.network)
        path = tmp_path / name / file.model / "model.json"
        path.parent.mkdir(parents=True)
        path.write_text(file.text(), encoding="utf-8")
    panels = two_way.panels_of(five, tmp_path)
    assert [panel.role for panel in panels] == ["quality", "diversity"]
    (gan, *_) = (panel.cells["images", "GAN"] for panel in panels)
    assert gan.secondary == [pytest.approx(gan.value)] and len(panels[0].cells) == 5
    data = two_way.picture(panels)
    assert data.startswith(b"\x89PNG") and data == two_way.picture(panels)
    assert two_way.panels_of([r for r in five if r.domain in ("pixels_gan", "words")], tmp_path) == []


def test_nothing_is_said_of_one_contrast_on_the_first_page() -> None:
    found = compared(NETWORK_MATTERS)
    assert short_answer(found, "d.md")
    assert (
        short_answer(replace(found, kinds={n: k for n, k in FIVE.items() if k.data == "images"}), "d.md")
        == ""
    )
    assert isinstance(BOTH[0], Contrast)
