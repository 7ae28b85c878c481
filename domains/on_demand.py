"""Classes by their path, imported when they are called: so that tables of evaluators load no torch."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class OnDemand:
    """Calls `module:name`; the module is imported only then.

    Example: `OnDemand("domains.text.topics:Topics")("cpu")`.
    """

    path: str

    def __call__(self, *arguments: Any) -> Any:
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(module), name)(*arguments)
