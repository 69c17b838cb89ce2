"""Mels brought from one contract to another: fitting takes frames, which conversion or interpolation brings there."""
