"""Audio files made into a dataset, and the dataset read."""
