"""The inner loops in C, and the few lines of Python that load them; see library.py."""
