"""What the documents say is what the records say, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import mean

import pytest

from bench.methods.notation import without_recalibration
from bench.records.edge import read_edge
from bench.records.schema import Record, read_records
from bench.report.during import both_ratios
from bench.report.report_data import report_data
from bench.stats.compressibility import retention_of
from bench.stats.model_file import read_models
from scripts import tools_records

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """As the usual renderers make them of headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        found = (page.parent / target).resolve()
        assert found.exists(), f"{page.name} links to {target}, which is not there"
        assert not anchor or anchor in anchors(found), (
            f"{page.name} links to {target}#{anchor}, a heading that is not there"
        )


def test_the_table_of_all_methods_is_what_the_committed_records_say() -> None:
    """docs/compression.md, typed once: retention of quality / of diversity of `s@0` by method and domain."""
    from scripts.figures import short

    by_cell: dict[tuple[str, str], list[Record]] = {}
    for r in read_records(ROOT / "results"):
        if r.model == "s@0":
            by_cell.setdefault((r.domain, r.method), []).append(r)
    text = (ROOT / "docs" / "compression.md").read_text(encoding="utf-8")
    _, *domains = (cell.strip() for cell in text.split("| near | ")[1].splitlines()[0].strip(" |").split("|"))
    rows = text.split("| near | ")[1].split("\n\n")[0].splitlines()[2:]
    assert len(rows) > 15
    for row in rows:
        _, method, *cells = (cell.strip() for cell in row.strip("|").split("|"))
        name = method.split("`")[1]
        for domain, cell in zip(domains, cells, strict=True):
            records = by_cell[domain, name + ("+recalibrate" if domain == "image_gan" else "")]
            kept = [
                mean(v for r in records if (v := retention_of(r, role)) is not None)
                for role in ("quality", "diversity")
            ]
            assert cell == " / ".join(map(short, kept)), (name, domain)


def test_the_table_of_tools_is_what_the_committed_records_give() -> None:
    """Each tool's method that was measured has a row or, where it covers no layer, a place in the list."""
    results, page = ROOT / "results", (ROOT / "docs" / "tools.md").read_text(encoding="utf-8")
    found = report_data(read_records(results), read_models(results))
    assert tools_records.filled(page, found) == page, "run python -m scripts.tools_records"
    of_tools = {r.method for r in found.records if r.tools and r.model == "s@0"}
    assert of_tools and all(f"`{without_recalibration(method)}" in page for method in of_tools)


def test_the_committed_findings_are_what_the_committed_records_give() -> None:
    """The script checks that the records support its sentences; here it must also give the committed
    figures.
    """
    from scripts.findings import findings

    results = ROOT / "results"
    page = findings(read_records(results), read_models(results), read_edge(results))
    assert page == (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")


EIGHT = "ldlq:bits=3.5,mixed"  # keeps the samples at 8x


def test_the_figures_in_the_words_of_the_readme_are_those_of_the_records() -> None:
    """Under its tables: typed, since one reads them first."""
    from scripts.figures import DIFFUSION, GAN, MOLECULES, OTHERS, TEXT, TOKENS, Figures, both_left

    f = Figures(report_data(read_records(ROOT / "results"), read_models(ROOT / "results")))
    readme, reading = (
        " ".join((ROOT / name).read_text(encoding="utf-8").split())
        for name in ("README.md", "docs/reading-the-leaderboard.md")
    )
    lost = [100 * (1 - kept[0]) for kept in (f.kept(DIFFUSION, "int6"), f.kept_secondary(DIFFUSION, "int6"))]
    assert (
        f"diffusion U-Nets lose {lost[0]:.0f} % of their quality on average ({lost[1]:.0f} % by the "
        f"secondary evaluators)"
    ) in readme
    assert (
        f"diffusion U-Nets {lost[0]:.0f} % of their quality on average ({lost[1]:.0f} % by the secondary "
        f"evaluator)"
    ) in reading
    orders, theirs_too = f.orders(), f.orders(secondary=True)
    first, second = ([o.first for o in some] for some in (orders, theirs_too))
    at_4_bits = {d: f"{100 * (1 - f.kept(d, 'int4')[0]):.0f} %" for d in f.domains}
    assert (
        f"GANs lose {at_4_bits[GAN]} of their quality and diffusion U-Nets {at_4_bits[DIFFUSION]}" in reading
    )
    transformers = at_4_bits[MOLECULES], at_4_bits[TOKENS], at_4_bits[TEXT]
    assert "transformer loses {} on molecules, {} on pictures and {} on text".format(*transformers) in reading
    untold = [o.model.domain for o in orders if o.first is None]
    assert sorted(untold) == [GAN] * 2 + [TOKENS] * 2
    assert "In the other four, two GANs and two transformers of pictures" in reading
    assert (
        all(f"in {first.count('quality')} of {len(first)} models" in page for page in (readme, reading))
        and first.count("diversity") == 0
    )
    assert all(
        f"he secondary evaluators say so of {second.count('quality')} of {len(second)}" in page
        for page in (readme, reading)
    )
    others = [m for m in f.whole if m.domain != GAN]
    survivors = [m for m in others if both_left(m, "int3")[0] > 0.5]
    assert [m.domain for m in survivors] == [MOLECULES] * 2
    assert f"and two of the other {len(others)} networks keep more than half of their quality" in readme
    models = [(d, m) for d in f.domains for m in ("s@0", "s@1", "s@2") if m != "s@0" or d in OTHERS]
    eight = [f.kept(*one) + f.kept_secondary(*one) for one in ((d, EIGHT, m) for d, m in models)]
    assert len(models) == 12 and 0.89 < min(map(min, eight)) < 0.9
    assert f"at least 0.89 in the {len(models)} networks of size s that took no part" in readme
    counts = [count / 1e6 for m in f.found.models if (count := f.found.parameters(m)) is not None]
    assert f"({min(counts):.2f} to {max(counts):.1f} million parameters each)" in readme
    # the columns of quality, after and during training
    kept = {
        row.split("|")[1].strip(): row.split("|") for row in both_ratios(f.found, f.found.ways).splitlines()
    }
    for domain, name in (("image_gan", "GANs"), ("text", "transformers of text")):
        after, during = (kept[f"{domain} s"][column].strip() for column in (3, 4))
        assert f"{name} at {during} in place of {after}" in readme


def test_every_page_of_docs_is_linked_in_its_index_and_the_readme_links_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages - {target for target, _ in LINK.findall(index)} == set()
    assert "](docs/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_page_of_docs_has_a_place_in_the_site() -> None:
    """`sphinx-build -W` refuses a page that no table of contents names."""
    named = re.findall(r"^   ([\w-]+)$", (ROOT / "docs/index.rst").read_text(encoding="utf-8"), re.MULTILINE)
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")} - {"README"}
    assert pages == set(named) - {"reference"}


def test_the_code_map_has_the_docstring_of_every_module() -> None:
    from scripts.code_map import PAGE, code_map

    page = PAGE.read_text(encoding="utf-8")
    assert page == code_map(page), "run `python -m scripts.code_map`"
