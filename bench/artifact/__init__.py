"""The compressed file: its bytes, its header, its coding, its writer, and what `inspect` says of it."""
