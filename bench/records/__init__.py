"""What a measurement is and what was measured: cells, records and the other published files."""
