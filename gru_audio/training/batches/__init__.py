"""Clips cut into crops, varied, and put into batches ahead of the step."""
