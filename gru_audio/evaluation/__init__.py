"""How good a voice is on clips that it has not heard: measures, anchors and a report.

`evaluate.evaluate` does it all; `measures` has the measures as plain functions, without torch.
"""

from gru_audio.evaluation.results import ClipResult, Evaluation, Measure, MeasureSummary

__all__ = ["ClipResult", "Evaluation", "Measure", "MeasureSummary"]
