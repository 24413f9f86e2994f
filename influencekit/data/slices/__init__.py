"""Examples that never fit one memory: read a slice at a time."""
