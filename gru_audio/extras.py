"""The packages that only some work needs, which a plain install leaves out."""

import importlib.util

from gru_audio.errors import MissingPackageError

_PACKAGES = {
    "train": ("torch", "tensorboard"),
    "eval": ("librosa", "scipy"),
    "datasets": ("pyarrow",),
    "cluster": ("dask", "distributed"),
    "wandb": ("wandb",),
}
"""By extra, the packages without which nothing of its work can be done."""


def require(extra: str, purpose: str, *packages: str) -> None:
    """Make sure that an extra's packages are there, before they are imported.

    Args:
        extra: one of the above.
        purpose: what they are for; the subject of the message.
        packages: those that it takes, where it does not take all.

    Raises:
        MissingPackageError: one is not installed.
    """
    for package in packages or _PACKAGES[extra]:
        if importlib.util.find_spec(package) is None:
            raise MissingPackageError(
                f"{purpose} needs {package}, which is not installed; pip install 'gru-audio[{extra}]'"
            )
