"""Mels brought from one contract to another: fitting takes frames, and has them converted, interpolated, sharpened."""
