"""The compressed file: its bytes, its header, its coding and its writer, and the report of `inspect`."""
