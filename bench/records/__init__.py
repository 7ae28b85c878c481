"""The records: what a cell is, what was measured, and the other published files."""
