"""Where a curve falls below a threshold, and whether quality or diversity does so first."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_up import RATES, ladder, model
from test_complete import cells, twice_judged

from bench.report.loss_order import by_domain
from bench.report.report_data import report_data
from bench.stats.ladder import ROLES, models_of
from bench.stats.order import crossing, onset, order_of


def test_a_straight_line_crosses_where_one_computes_it() -> None:
    """From (0, 1) to (4, 0): .9 at rate .4, one half at 2."""
    assert crossing([4.0], [0.0], 0.9) == pytest.approx(0.4)
    assert crossing([1.0, 2.0, 4.0], [0.75, 0.5, 0.0], 0.6) == pytest.approx(1.6)


def test_rungs_count_in_the_order_of_their_files() -> None:
    """`ternary` may be smaller than `binary`."""
    assert crossing([3.0, 2.0, 1.0], [0.5, 0.7, 1.0], 0.9) == crossing([1.0, 2.0, 3.0], [1.0, 0.7, 0.5], 0.9)


def test_the_first_crossing_counts_and_a_touch_is_none() -> None:
    assert crossing([1.0, 2.0, 3.0, 4.0], [0.8, 1.0, 0.8, 0.0], 0.9) == pytest.approx(0.5)
    assert crossing([1.0, 2.0, 3.0], [0.9, 0.9, 0.0], 0.9) == pytest.approx(2.0), (
        "at the threshold is not below"
    )
    assert crossing([1.0, 2.0], [1.0, 0.9], 0.9) == math.inf
    assert crossing([], [], 0.9) == math.inf


def test_the_onset_lies_within_its_interval() -> None:
    m = model("d", quality=[1.0, 0.95, 0.92, 0.85, 0.5, 0.2, 0.1, 0.0], items=200)
    found = onset(m, "quality")
    assert 1 <= found.low < found.ratio < found.high
    assert found.ratio == pytest.approx(
        2 ** (RATES[2] + (0.92 - 0.9) / (0.92 - 0.85) * (RATES[3] - RATES[2]))
    )
    again = onset(model("d", quality=[1.0, 0.95, 0.92, 0.85, 0.5, 0.2, 0.1, 0.0], items=2000), "quality")
    assert found.low < again.low < again.high < found.high, "more samples, a narrower interval"


def test_where_nothing_is_lost_nothing_begins() -> None:
    found = onset(model("d"), "quality")
    assert (found.ratio, found.high) == (math.inf, math.inf)


@pytest.mark.parametrize("first", ROLES)
def test_the_role_whose_interval_lies_before_the_others_goes_first(first: str) -> None:
    early, late = [1.0, 0.9, 0.5, 0.1, 0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0, 0.9, 0.3, 0.0, 0.0]
    turn = 1 if first == "quality" else -1
    assert order_of(model("d", "s@0", *(early, late)[::turn])).first == first
    assert order_of(model("d", "s@0", *(early, [1.0] * 8)[::turn])).first == first, "the other never begins"


def test_overlapping_intervals_are_not_told_apart() -> None:
    falling = np.array([1.0, 0.97, 0.94, 0.8, 0.5, 0.2, 0.0, 0.0])
    assert order_of(model("d", quality=falling, diversity=falling)).first is None
    assert order_of(model("d", quality=falling, diversity=falling + 0.002, items=200)).first is None
    assert order_of(model("d", quality=falling, diversity=falling + 0.03)).first == "quality"
    assert order_of(model("d")).first is None, "neither begins"


def test_of_every_model_the_records_have() -> None:
    (m,) = models_of(ladder("d", quality=[1, 1, 1, 0.4, 0, 0, 0, 0], diversity=[1, 1, 1, 1, 1, 1, 0.3, 0]))
    found = order_of(m)
    assert found.model is m and found.first == "quality"
    # from 1 at rate 2.7 to .4 at 3.0
    assert found.onsets["quality"].ratio == pytest.approx(2 ** (2.7 + 0.3 * 0.1 / 0.6), rel=0.01)


def test_a_line_for_each_domain_says_how_often_each_role_is_first() -> None:
    early, late = [1, 1, 0.4, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0.3, 0]
    records = [
        *ladder("a", "s@0", quality=early, diversity=late),
        *ladder("a", "s@1", quality=[1, 1, 1, 0.4, 0, 0, 0, 0], diversity=late),
        *ladder("b", "s@0", quality=late, diversity=early),
        *ladder("b", "s@1"),
    ]
    text = by_domain(report_data(twice_judged(records), {}))
    assert text.startswith(
        "Quality is lost first in 2 of 4 models and diversity in 1. By the secondary evaluators these are 2 "
        "and 1 of 4. Diversity is lost first more often than quality in b. Mordido et al. (2021, arXiv:2103"
    )
    rows = {row[0]: row for row in cells(text)}
    assert rows["a"][1] == "2" and rows["a"][4:] == ["2", "0", "2", "0"]
    assert rows["b"][2] == "∞ (15.4x to ∞)" and rows["b"][4:] == ["0", "1", "0", "1"]
    alone = by_domain(report_data([r for r in records if r.domain == "a"], {}))
    assert alone.startswith("Quality is lost first in 2 of 2 models and diversity in 0. Diversity is lost")
    assert "in no domain" in alone and cells(alone)[-1][4:] == ["2", "0", "-", "-"]
    assert by_domain(report_data([], {})) == ""
