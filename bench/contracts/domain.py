"""The contracts of a domain: its names and tables, metrics, task and damages."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import get_args

import numpy as np

from bench.contracts.contract import Skipped, require
from bench.contracts.real_samples import check_refused
from bench.contracts.samples import SMALL, items
from bench.errors import NeedsReference
from bench.evaluation.damage import damage_matrix, failures
from bench.evaluation.verdicts import features_of
from bench.interfaces import Domain, Hurts, Metric, ModelSpec, SampleFeatures, Samples
from bench.methods.notation import parse
from bench.records.cell import cells
from bench.registry import DOMAINS, default_model
from bench.runner.evaluation import Evaluation
from bench.runner.run_cell import run_cell
from bench.runner.session import ModelSession
from bench.util.cache import Cache

LONGEST_WORD = 24  # characters of a kind of data or network
DAMAGED = 2000  # samples of the matrix of damages, where the domain has as many


# --- names and tables ---------------------------------------------------------------------------------


def its_name_is_that_of_its_entry_point(domain: Domain) -> None:
    """Records and commands name the domain; both have to lead to the class."""
    name = getattr(domain, "name", None)
    require(
        name in DOMAINS and DOMAINS.load(str(name)) is type(domain),
        f"the class says name {name!r}, and no entry point of that name leads to it",
        "give the class and the entry point in pyproject.toml the same name",
    )
    said = getattr(domain, "description", None)
    require(
        isinstance(said, str) and said and "\n" not in said,
        f"its description is {said!r}",
        "write one line for `bench list`",
    )


def its_kinds_are_words(domain: Domain) -> None:
    """They are the heads of columns and rows, and equal ones are taken for the same."""
    for member in ("kind_of_data", "kind_of_network"):
        word = getattr(domain, member, "")
        require(
            isinstance(word, str) and word == " ".join(word.split()) and len(word) <= LONGEST_WORD,
            f"its {member} is {word!r}",
            f"name it in at most {LONGEST_WORD} characters, such as `images`, or leave it empty",
        )


def it_ships_models_under_their_names(domain: Domain) -> None:
    """A domain without models would skip every contract of generators.

    Only one for models and real samples of the user's ships neither.
    """
    if ships_real_samples(domain):
        require(domain.models, "`models` is empty", "name a model, for example s@0")
    else:
        require(not domain.models, "it ships models and no real samples", "ship some, to score the models")
        raise Skipped("it ships neither models nor real samples: both are the user's")
    for name, spec in domain.models.items():
        require(spec.name == name, f"the model {name!r} has a spec named {spec.name!r}", "use one name")


def ships_real_samples(domain: Domain) -> bool:
    """Whether `reference` needs no source."""
    try:
        domain.reference("test")
    except NeedsReference:
        return False
    return True


def first_model(domain: Domain) -> ModelSpec:
    """The default model. Raises `Skipped` where there is none; another contract says whether that may be."""
    if not domain.models:
        raise Skipped("it ships no model")
    return default_model(domain)


def an_unknown_model_is_named(domain: Domain) -> None:
    """`locate` finds what ships, and refuses the rest with `BadInput`."""
    for name, spec in domain.models.items():
        require(domain.locate(name) == spec, f"`locate({name!r})` gives another spec", "return models[name]")
    check_refused("an unknown model in `locate`", "no-such@9", domain.locate, "no-such@9")


def each_role_has_an_evaluator(domain: Domain) -> None:
    """At least one primary evaluator of quality and one of diversity; no name twice."""
    roles = set(domain.evaluators().values())
    require(
        roles == {"quality", "diversity"},
        f"its primary evaluators have the roles {sorted(roles)}",
        "give `evaluator_table` one primary evaluator of `quality` and one of `diversity`",
    )
    both = domain.second_evaluators().keys() & domain.evaluators().keys()
    require(not both, f"{', '.join(both)} are primary and secondary", "list each evaluator once")


# --- metrics, tasks and damages -----------------------------------------------------------------------


def check_declared(name: str, metric: Metric) -> None:
    """Raises `Broken` where a metric's name, version or description is not possible."""
    require(
        isinstance(metric, Metric),
        f"{name!r} is {type(metric).__name__}",
        "make it a bench.interfaces.Metric",
    )
    require(metric.name == name, f"the metric {name!r} says name {metric.name!r}", "use one name")
    require(
        isinstance(metric.version, int) and metric.version >= 1,
        f"the metric {name!r} has version {metric.version!r}",
        "use 1, 2 ...",
    )
    require(metric.description, f"the metric {name!r} has no description", "write one line")


def its_metrics_are_described_and_finite(domain: Domain) -> None:
    """On real samples against other real samples."""
    metrics = domain.metrics()
    for name, metric in metrics.items():
        check_declared(name, metric)
    if not metrics:
        return
    generated, real = (seen(domain, split) for split in ("ceiling", "test"))
    for name, metric in metrics.items():
        if metric.compute is not None:
            check_value(name, metric.compute(generated, real))


def check_value(name: str, value: object) -> None:
    """Raises `Broken` unless the value of a metric is a finite number."""
    require(
        isinstance(value, float | int) and math.isfinite(value),
        f"the metric {name!r} of real samples is {value!r}",
        "return a finite Python float",
    )


def seen(domain: Domain, split: str) -> SampleFeatures:
    """The first real samples of a split, as the metrics get them."""
    samples = domain.reference(split)[:SMALL]
    evaluators = [domain.evaluator(name) for name in domain.evaluators()]
    return SampleFeatures(samples, {e.name: features_of(e, samples) for e in evaluators})


def its_task_says_the_same_twice_and_sees_variety(domain: Domain) -> None:
    """Five samples, repeated, must be worth less than as many different ones."""
    task = domain.task()
    if task is None:
        return
    samples = domain.reference("ceiling")[:500]
    score, again = task.score(samples), task.score(samples)
    require(
        score.ndim == 1 and len(score) > 100 and np.isfinite(score).all(),
        f"the task's score has shape {list(score.shape)}",
        "return one finite number for each of more than 100 real items",
    )
    require(np.array_equal(score, again), "the task's score differs between two calls", "seed its training")
    few = [samples[i % 5] for i in range(500)]
    poor: Samples = few if isinstance(samples, list) else np.stack(few)
    require(
        task.score(poor).mean() < score.mean(),
        "the task scores five repeated samples as high as varied ones",
        "choose a task that needs varied samples",
    )


def damages_are_repeatable_and_of_both_kinds(domain: Domain) -> None:
    """Of `surface` and of `variety`; they leave their input as it is."""
    damages = domain.damages()
    kinds = {damage.hurts for damage in damages.values()}
    require(
        {"surface", "variety"} <= kinds <= set(get_args(Hurts)),
        f"its damages hurt {sorted(kinds)}",
        f"give one of `surface` and one of `variety`; allowed: {', '.join(get_args(Hurts))}",
    )
    samples = domain.reference("ceiling")[:SMALL]
    before = items(samples)
    for name, damage in damages.items():
        damaged = damage.apply(samples)
        require(items(samples) == before, f"the damage {name!r} changes its input", "copy the samples first")
        require(items(damaged) != before, f"the damage {name!r} changes nothing", "make it stronger")
        require(
            items(damaged) == items(damage.apply(samples)),
            f"the damage {name!r} differs between two calls",
            "seed what it draws",
        )
        require(
            damage.hurts != "variety" or set(items(damaged)) <= set(before),
            f"the damage {name!r} of variety changes items",
            "keep each item whole",
        )
        require(
            damage.milder in (None, "", *damages),
            f"the damage {name!r} names the milder damage {damage.milder!r}, which is not there",
            "name one of its damages, or ''",
        )


def its_evaluators_see_each_damage_and_only_its_kind(domain: Domain) -> None:
    """The matrix of damages, with the bounds that the domain gives."""
    n = min(DAMAGED, *(len(domain.reference(split)) for split in ("test", "ceiling")))
    found = failures(damage_matrix(domain, n))
    require(
        not found,
        found[0] + (f" (and {len(found) - 1} more)" if found[1:] else "") if found else "",
        "see `python -m bench damages`: change the evaluator, not the bound",
    )


def its_figures_are_declared(domain: Domain) -> None:
    """What `likelihood` and `auxiliary_scores` of the first model return is in `metrics`."""
    generator = domain.open(first_model(domain))
    likelihood = generator.likelihood(generator.network, generator.network) or {}
    auxiliary = generator.auxiliary_scores(generator.sample(generator.network, 16, 0))
    for member, found in {"likelihood": likelihood, "auxiliary_scores": auxiliary}.items():
        _check_figures(member, found, domain.metrics())


def a_cell_is_measured(domain: Domain) -> None:
    """One cell from end to end: the first model by `int8`, with few samples."""
    session = ModelSession(domain, first_model(domain), SMALL, cache=Cache(use=False))
    evaluation = Evaluation(session)
    versions = {method: parse(method).versions for method in ("none", "int8")}
    _, cell = cells(evaluation.template, ["int8"], [0], versions)
    record = run_cell(cell, evaluation)
    require(
        record.status in ("ok", "collapsed"),
        f"the cell of {cell.model} by int8 ended as {record.status}: {record.reason}",
        "see the other contracts of the model and of the evaluators",
    )
    json.loads(record.model_dump_json())


def _check_figures(member: str, found: Mapping[str, float], declared: Mapping[str, Metric]) -> None:
    missing = sorted(found.keys() - declared.keys())
    require(
        not missing,
        f"`{member}` returns {', '.join(missing)}, which `metrics` does not declare",
        "add a Metric without `compute` for each",
    )
    for name, value in found.items():
        check_value(name, value)


CONTRACTS = (
    its_name_is_that_of_its_entry_point,
    its_kinds_are_words,
    it_ships_models_under_their_names,
    an_unknown_model_is_named,
    each_role_has_an_evaluator,
    its_metrics_are_described_and_finite,
    its_task_says_the_same_twice_and_sees_variety,
    damages_are_repeatable_and_of_both_kinds,
)
# these take longer, up to minutes in a large domain
LONG_CONTRACTS = (
    its_figures_are_declared,
    a_cell_is_measured,
    its_evaluators_see_each_damage_and_only_its_kind,
)
