"""A metric in one file: how far samples lie apart, as an evaluator sees them."""

from bench.interfaces import Metric


def relative_spread(generated, real):  # each has `samples`, and the features [n, d] of each evaluator
    name = next(iter(real.by_evaluator))
    made, wanted = generated.by_evaluator[name].features, real.by_evaluator[name].features
    return float(made.std(0).mean() / wanted.std(0).mean())


METRIC = Metric("spread", "standard deviation over that of real samples", "none", compute=relative_spread)
