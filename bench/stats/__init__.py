"""From records to numbers: scores, intervals, tests. No text."""
