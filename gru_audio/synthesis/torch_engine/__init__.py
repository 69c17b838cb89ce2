"""The torch engine: every cell and output, on any device."""
