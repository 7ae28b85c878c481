"""`bench site` without a browser: the page holds the records' numbers, and nothing breaks out of it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from made_up import ladder, scored, stored
from site_pages import HOSTILE, Elements, data_of, hostile_records, made, records, rows_of, unlike

from bench.cli import main as cli
from bench.errors import BadInput
from bench.records.schema import SEED_OF_TWINS, Items, Record, read_records
from bench.report.leaderboard import pages
from bench.report.site import samples
from bench.report.site.compare import half_widths, rung_of, with_every_method
from bench.report.site.data import Source
from bench.report.site.page import in_script, page_and_rows, policy, sources_of
from bench.stats.compressibility import retention_of
from bench.stats.ladder import ROLES, conditions_digest
from bench.stats.twin_outcomes import TWIN_OUTCOMES
from bench.util.files import slug
from bench.util.markup import only_own_html
from domains.images.files import write_grid

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"


@pytest.fixture(scope="module")
def published() -> str:
    return made(read_records(RESULTS), RESULTS)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return made(records(), tmp_path_factory.mktemp("none"))


def test_the_rows_are_the_means_of_the_published_records(published: str) -> None:
    by_cell: dict[tuple[str, str, str], list[Record]] = {}
    for r in read_records(RESULTS):
        by_cell.setdefault((r.domain, r.model, r.method), []).append(r)
    rows = rows_of(published)
    assert len(rows) == len(by_cell) > 200
    for row in rows:
        same = by_cell[row["domain"], row["model"], row["method"]]
        assert sorted(row["cells"]) == sorted(r.cell[:16] for r in same)
        if not any(r.cost for r in same):  # unsupported: a tool that covers no layer of the network
            assert (row["ratio"], *(row[role] for role in ROLES)) == (None, None, None) and not row["metrics"]
            continue
        assert row["ratio"] == pytest.approx(mean(r.cost.ratio for r in same if r.cost), rel=1e-5)
        for role in ROLES:
            kept = [v for r in same if (v := retention_of(r, role)) is not None]
            wanted = 1.0 if row["method"] == "none" else mean(kept)
            assert row[role] == pytest.approx(wanted, rel=1e-5, abs=1e-12)
            if row["method"] != "none":
                assert row[f"{role}_low"] <= row[role] <= row[f"{role}_high"]
        for name, value in row["metrics"].items():
            known = [v for r in same if (v := r.metric(name)) is not None]
            assert value == pytest.approx(mean(known), rel=1e-5, abs=1e-12)


def test_the_published_page_is_small_and_shows_twins_of_every_domain(published: str) -> None:
    assert len(published.encode()) < 2_000_000
    twins = data_of(published)["twins"]
    models = {(row["domain"], row["model"]) for row in rows_of(published)}
    assert {(t["domain"], t["model"]) for t in twins} == models
    assert all(t["seed"] is not None and len(t["fates"]) == len(t["samples"]) for t in twins)


def test_a_twin_that_equals_the_uncompressed_sample_has_not_changed(published: str) -> None:
    """This would fail if the letters were those of another sampling seed."""
    same = 0
    for t in data_of(published)["twins"]:
        for method, some in t["samples"].items():
            for twin, before, letter in zip(some, t["samples"]["none"], t["fates"][method]):
                if twin == before and len(twin) < 200 and method != "none":
                    same += 1
                    assert letter in "is", (t["domain"], t["model"], method)
    assert same > 20


def test_tables_can_be_read_without_the_script(published: str) -> None:
    lines = Elements(published).lines
    row = next(row for row in rows_of(published) if row["method"].startswith("int4"))
    wanted = [row["model"], row["method"], f"{row['ratio']:.2f}x"]
    assert any(all(text in cells for text in wanted) for cells in lines)
    assert sum("int8" in cells[0] for cells in lines if cells) >= 3  # twins of every domain, rung by rung
    assert "is more compressible than" in published


def test_nothing_is_loaded_from_elsewhere(published: str, small: str) -> None:
    for page in (published, small):
        for tag, attributes in Elements(page).found:
            for name in ("src", "href", "action", "data", "srcset", "poster"):
                value = attributes.get(name)
                assert value is None or value.startswith(("#", "data:")), (tag, name, value)
            assert not [name for name in attributes if name.startswith("on")], tag
            assert "style" not in attributes, "the policy forbids it"
        assert "@import" not in page and "url(" not in page


def test_the_policy_allows_only_the_pages_own_style_and_script(small: str) -> None:
    (content,) = (a["content"] for tag, a in Elements(small).found if a.get("http-equiv"))
    assert content is not None and "default-src 'none'" in content and "unsafe" not in content
    for kind, start in (("style", "<style>"), ("script", "<script>")):
        (text,) = re.findall(f"{start}(.*?)</{kind}>", small, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in content
    assert "'sha256-" in policy("a", "b") and policy("a", "b") != policy("a", "c")


def test_equal_records_give_equal_bytes(small: str, tmp_path: Path) -> None:
    assert made(records(), tmp_path) == small
    assert made(records()[::-1], tmp_path) == small


def test_hostile_names_and_reasons_stay_text(tmp_path: Path, small: str) -> None:
    page = made(hostile_records(), tmp_path)
    tags = [tag for tag, _ in Elements(page).found]
    assert tags.count("script") == 2 and tags.count("style") == 1 and "img" not in tags
    assert tags.count("svg") == [tag for tag, _ in Elements(small).found].count("svg")
    assert "\u2028" not in data_text(page) and "<" not in data_text(page)
    rows = rows_of(page)
    assert {row["domain"] for row in rows} == {HOSTILE[0], HOSTILE[4]}
    assert {row["reason"] for row in rows} == {"".join(HOSTILE)}
    assert "{{ 7 * 7 }}" in page and ">49<" not in page
    assert not re.search(r"&amp;(lt|gt|#\d+);", page), "escaped twice"


def test_hostile_names_add_no_html_to_the_markdown_pages(tmp_path: Path) -> None:
    found = pages(hostile_records(), tmp_path, tmp_path / "leaderboard.md")
    assert len(found) == 6
    for text in found.values():
        tags = re.findall(r"<[^>]*>?", re.sub(r"`[^`|\n]+`", "", text))
        assert set(tags) <= {f"<{end}{name}>" for end in ("", "/") for name in ("details", "summary")}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a <script> of `x <y>`", "a &lt;script> of `x <y>`"),
        ("<details><summary>a < b</summary></details>", "<details><summary>a &lt; b</summary></details>"),
        ("| ` | <img src=x> | ` |", "| ` | &lt;img src=x> | ` |"),
        ("`` a ` <b> `` <i>", "`` a ` <b> `` &lt;i>"),
    ],
)
def test_only_own_html_passes(text: str, shown: str) -> None:
    assert only_own_html(text) == shown


def data_text(page: str) -> str:
    found = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return found[1]


@pytest.mark.parametrize("text", [*HOSTILE, "\ud800", "&lt;"])
def test_json_in_a_script_holds_any_text(text: str) -> None:
    inside = in_script({"a": text})
    assert json.loads(inside) == {"a": text}
    assert not re.search("[<>&\u2028\u2029\ud800-\udfff]", inside)


def test_training_time_methods_have_a_table_and_a_filter(small: str) -> None:
    assert "After training or during training" in small
    assert {row["when"] for row in rows_of(small)} == {"after training", "during training"}
    assert '<option value="during training">' in small


def test_the_interval_of_a_rung_is_that_of_the_statistics() -> None:
    group = [r for r in records() if (r.domain, r.model) == ("alpha", "s@0")]
    every = with_every_method(group)
    assert every is not None
    for role in ROLES:
        for i in range(len(every.rungs)):
            ours, theirs = rung_of(every.outcomes[role], i), every.outcomes[role].rung(i)
            assert (ours.value, ours.df) == (theirs.value, theirs.df)
            assert ours.interval() == pytest.approx(theirs.interval(), rel=1e-9)
        widths = half_widths(every)[role]
        assert [len(row) for row in widths] == list(range(len(every.rungs)))
        assert all(width is not None and width >= 0 for row in widths for width in row)


def test_the_interval_of_a_method_is_over_all_of_its_seeds(tmp_path: Path) -> None:
    """One method of one seed beside others of three."""
    some = ladder("alpha", quality=[0.4, *[0.4] * 7])
    some = [r for r in some if r.method != "int8" or r.sample_seed == 0]
    better = [stored(scored("int4", seed, 0.9, 1.0, "alpha"), 8.0) for seed in (1, 2)]
    some = [r for r in some if r.method != "int4" or r.sample_seed == 0] + better
    (row,) = [r for r in rows_of(made(some, tmp_path)) if r["method"] == "int4"]
    assert row["quality_low"] < row["quality"] < row["quality_high"]
    assert not data_of(made(some, tmp_path))["paired"], "their differences are not paired"


def test_an_own_cell_that_repeats_a_published_one_has_a_link_of_its_own(tmp_path: Path) -> None:
    some = records()
    page, _ = page_and_rows([Source(name, tmp_path / name, some) for name in ("published", "my own")])
    links = re.findall(r'href="#cell=([^"]+)"', page)
    own = {link for link in links if link.endswith("+my%20own")}
    assert own and own == {f"{link}+my%20own" for link in set(links) - own}


# --- twins ------------------------------------------------------------------------------------------------


def with_twins(r: Record) -> Record:
    """With flags of 100 twins: the first is intact, the second drifted, and so on."""
    flags = {name: np.arange(100) % 5 == i for i, name in enumerate(TWIN_OUTCOMES)}
    return r.model_copy(update={"items": {name: Items.pack(some) for name, some in flags.items()}})


def test_texts_are_shown_with_what_became_of_them(tmp_path: Path) -> None:
    some = [with_twins(r) for r in records()]
    folder = tmp_path / "alpha" / "s@0"
    folder.mkdir(parents=True)
    block = f"none | {HOSTILE[0]}\nint8 | {HOSTILE[1]}{'x' * 500}\nother | y"
    (folder / "twins.txt").write_text("\n\n".join([block] * 9), encoding="utf-8")
    (folder / SEED_OF_TWINS).write_text("1\n", encoding="utf-8")
    page = made(some, tmp_path)
    (twins,) = data_of(page)["twins"]
    assert set(twins["samples"]) == {"none", "int8"} and twins["seed"] == 1
    assert twins["samples"]["none"][0] == HOSTILE[0] and len(twins["samples"]["int8"][0]) == 202
    assert twins["fates"]["int8"].startswith("idrgs") and HOSTILE[0] not in page
    (folder / SEED_OF_TWINS).write_text(f"1\n{conditions_digest(some[0])}\n", encoding="utf-8")
    assert data_of(made(some, tmp_path))["twins"] == [twins]
    (folder / SEED_OF_TWINS).write_text("1\n0123456789abcdef\n", encoding="utf-8")
    assert data_of(made(some, tmp_path))["twins"] == [], "they were made under other conditions"
    (folder / SEED_OF_TWINS).unlink()
    assert data_of(made(some, tmp_path))["twins"][0]["fates"] == {}, "their seed is not known"
    (folder / "twins.txt").write_text("other | y", encoding="utf-8")
    assert data_of(made(some, tmp_path))["twins"] == [], "no method of it has a record"


def test_pictures_are_taken_apart_as_they_were_put_together(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (3, 7, 1, 28, 28), dtype=np.uint8)
    folder = tmp_path / "alpha" / "s@0"
    folder.mkdir(parents=True)
    write_grid(dict(zip(["none", "int8", "int2"], pixels)), folder / "twins")
    (twins,) = data_of(made([with_twins(r) for r in records()], tmp_path))["twins"]
    for method, wanted in zip(["none", "int8", "int2"], pixels):
        for uri, one in zip(twins["samples"][method], wanted):
            raw = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
            (tmp_path / "one.png").write_bytes(raw)
            assert (np.asarray(Image.open(tmp_path / "one.png")) == one[0]).all()


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\nrest", b"GIF89a"])
def test_a_damaged_picture_is_reported_and_left_out(content: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "alpha" / "s@0"
    folder.mkdir(parents=True)
    (folder / "twins.png").write_bytes(content)
    said: list[str] = []
    group = [r for r in records() if (r.domain, r.model) == ("alpha", "s@0")]
    assert samples.read_twins("own", tmp_path, group, True, said.append) is None
    assert len(said) == 1 and "twins.png" in said[0]


def test_a_picture_without_a_layout_is_reported(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "alpha" / "s@0"
    folder.mkdir(parents=True)
    Image.new("L", (9, 9)).save(folder / "twins.png")
    said: list[str] = []
    group = [r for r in records() if (r.domain, r.model) == ("alpha", "s@0")]
    assert samples.read_twins("own", tmp_path, group, True, said.append) is None
    assert "text chunk" in said[0]


# --- the command ------------------------------------------------------------------------------------------


def stored_at(folder: Path, some: list[Record]) -> None:
    for r in some:
        r.write(folder / slug(r.domain) / slug(r.model) / slug(r.method) / f"{r.cell[:16]}.json")


def test_own_records_stand_beside_the_published_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    stored_at(tmp_path / "results", records())
    own = unlike(ladder("alpha", "mine", 0.5, 0.5))
    stored_at(tmp_path / "results" / "local", own)
    assert cli.main(["site", "--results", "results/local"]) == 0
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    rows = rows_of(page)
    assert {(row["source"], row["model"]) for row in rows if row["domain"] == "alpha"} == {
        ("published", "s@0"),
        ("published", "s@1"),
        ("own", "mine"),
    }
    assert "alpha is more compressible" in page, "the answer is that of the published records"
    assert "index.html" in capsys.readouterr().err
    assert cli.main(["site"]) == 0
    assert {
        row["source"] for row in rows_of((tmp_path / "site" / "index.html").read_text(encoding="utf-8"))
    } == {"published"}


def test_only_own_records_make_a_page_too(tmp_path: Path) -> None:
    page, rows = page_and_rows([Source("own", tmp_path, unlike(ladder("alpha", "mine", 0.5, 0.5)))])
    assert rows == 9 and "nothing to compare" in page


def test_a_folder_without_records_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    for arguments in (["site"], ["site", "--results", "nowhere"]):
        assert cli.main(arguments) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(BadInput, match="no records"):
        sources_of(tmp_path / "results", tmp_path / "results", lambda line: None)
