"""The commands, by what they are for. Each is options in, one call, text or JSON out; torch is imported when a command needs it."""
