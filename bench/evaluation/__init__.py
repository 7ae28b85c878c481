"""From samples to verdicts: evaluators, quality and diversity, floors, ceilings and known damages."""
