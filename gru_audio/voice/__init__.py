"""A voice and its file, and what lies in a run's folder."""
