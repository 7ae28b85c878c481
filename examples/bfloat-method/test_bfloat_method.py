"""The method keeps every contract of the benchmark. Install its package first."""

from bench.contracts.check import broken


def test_every_contract_is_kept():
    assert broken("bfloat") == []
