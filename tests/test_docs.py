"""What the documents say is what the records say, and their links lead somewhere."""

from __future__ import annotations

import html
import re
from pathlib import Path
from statistics import mean

import pytest

from bench.methods.notation import without_recalibration
from bench.records.edge import read_edge
from bench.records.schema import Record, read_records
from bench.report.caveats import lost_by_size
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
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    lost = {}
    for size in ("xs", "s"):
        ours, theirs = (
            [both_left(m, "int6")[0] for m in models if (m.domain, m.size) == (DIFFUSION, size)]
            for models in (f.whole, f.secondary)
        )
        lost[size] = [100 * (1 - mean(kept)) for kept in (ours, theirs)]
    (small, small_too), (large, large_too) = lost["xs"], lost["s"]
    assert (
        f"diffusion U-Nets of size xs lose {small:.0f} % of their quality ({small_too:.0f} % by the "
        f"secondary evaluators). Those of size s lose {large:.0f} % ({large_too:.0f} %)."
    ) in readme
    at_4_bits = [f"{f.kept(d, 'int4')[0]:.2f}" for d in (GAN, MOLECULES, TOKENS, TEXT, DIFFUSION)]
    strict = f"{f.kept_secondary(DIFFUSION, 'int4')[0]:.2f}"
    of_size_m = [
        sorted(both_left(m, "int4")[0] for m in models if (m.domain, m.size) == (DIFFUSION, "m"))
        for models in (f.whole, f.secondary)
    ]
    large = [f"{kept[0]:.2f} to {kept[-1]:.2f}" for kept in of_size_m]
    assert (
        "GANs keep {} of their quality, transformers of molecules {}, of pictures {} and of text {} (means, "
        "not tested). U-Nets keep {}, and {} by the secondary evaluators; those of size m keep {}, and {}."
    ).format(*at_4_bits, strict, *large) in readme
    first, second = ([o.first for o in some] for some in (f.orders(), f.orders(secondary=True)))
    assert (
        f"in {first.count('quality')} of {len(first)} models ({second.count('quality')} by the secondary "
        f"evaluators, and the opposite in {second.count('diversity')})"
    ) in readme
    assert first.count("diversity") == 0 and len(second) == len(first)
    others = [m for m in f.whole if m.domain != GAN]
    survivors = [m for m in others if both_left(m, "int3")[0] > 0.5]
    assert [m.domain for m in survivors] == [MOLECULES] * 2
    strict = [m for m in f.secondary if m.domain != GAN and both_left(m, "int3")[0] > 0.5]
    assert len(strict) == 4
    least, least_too = (
        min(both_left(m, "int3")[0] for m in models if m.domain == GAN) for models in (f.whole, f.secondary)
    )
    assert (
        f"At 3 bits each GAN keeps at least {least:.2f} of its quality ({least_too:.2f} by the secondary "
        f"evaluators). Of the {len(others)} networks that are not GANs, two keep more than half (four by the "
        "secondary evaluators)."
    ) in readme
    models = [(d, m) for d in f.domains for m in ("s@0", "s@1", "s@2") if m != "s@0" or d in OTHERS]
    eight = [f.kept(*one) + f.kept_secondary(*one) for one in ((d, EIGHT, m) for d, m in models)]
    assert len(models) == 12 and 0.89 < min(map(min, eight)) < 0.9
    assert (
        "keeps at least 0.89 of both scores in twelve networks of size s. None of them took part in its "
        "choice" in readme
    )
    counts = [count / 1e6 for m in f.found.models if (count := f.found.parameters(m)) is not None]
    assert f"({min(counts):.2f} to {max(counts):.1f} million parameters each)" in readme
    shown = html.unescape(both_ratios(f.found, f.found.ways, all_sizes=False))
    cells = [[cell.strip() for cell in line.split("|")] for line in shown.splitlines() if "|" in line]
    rows = {title: values for _, title, _, *values, _ in cells}
    after, during, of_diversity, diversity = rows["image_gan s"]
    doubted = re.search(rf"image_gan s diversity after training \((.+?) in place of {of_diversity}\)", shown)
    assert doubted is not None
    assert (
        f"keep 0.90 of their quality at {during}, and of their diversity at {diversity}. With the same rungs "
        f"after training, it is {after} each."
    ) in readme
    assert doubted[1] == after
    assert "image_gan" not in shown.split("smaller ratio for")[1].replace(doubted[0], "")
    assert rows["image_diffusion s"][1] == "-" and "text s quality during training (no rung in" in shown
    claims = sum(map(f.found.now.claimed, f.found.now.comparisons))
    lost = {size: claims - len(of) for size, of in lost_by_size(f.found.now).items()}
    assert f"Size s alone shows {lost['s']} of its {claims} claims, and size xs alone {lost['xs']}." in readme


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
