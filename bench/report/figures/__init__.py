"""Pictures and tables for people, from the records alone; equal records give equal bytes."""
