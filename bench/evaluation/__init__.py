"""From samples to scores: evaluators, quality and diversity, floors, ceilings and known damages."""
