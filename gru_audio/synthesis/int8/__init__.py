"""The int8 engine: its quantised layouts and its sample loop."""
