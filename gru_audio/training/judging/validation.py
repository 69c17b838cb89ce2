"""Teacher-forced figures on the same held-out crops at every validation."""

import torch

from gru_audio.config import CONTEXT_FRAMES, Config
from gru_audio.data.dataset import Dataset
from gru_audio.network.model import Network
from gru_audio.training.batches.crops import CropSource
from gru_audio.training.objective import bits, compute_losses


class Validation:
    """`train.valid_crops` crops of the validation split, rounded up to whole batches.

    They are those of the run's last stage, so that the figures of all stages can be compared.
    """

    def __init__(self, dataset: Dataset, config: Config, device: torch.device) -> None:
        """Draw the crops.

        Raises:
            DatasetError: the dataset does not fit the config, or the split is empty.
        """
        stage = config.train.all_stages[-1]
        fixed = config.model_copy(update={"train": config.train.with_only(stage)})
        n_batches = -(-config.train.valid_crops // stage.batch_size)
        source = CropSource(dataset, fixed, "valid", CONTEXT_FRAMES)
        self.batches, self._device = [source.batch(index) for index in range(n_batches)], device

    @torch.no_grad()
    def measure(self, network: Network) -> dict[str, float]:
        """Figures of a network, with its pitch head's own estimates."""
        totals = torch.zeros(4, dtype=torch.float64)
        for batch in self.batches:
            losses = compute_losses(network, batch.to(self._device), own_pitch=True)
            totals += torch.stack(losses).double().cpu() / len(self.batches)
        return {
            "bits": bits(float(totals[0])),
            "pitch_loss": float(totals[1]),
            "voicing_accuracy": float(totals[2]),
            "pitch_cents": float(totals[3]),
        }
