"""Mel contracts that store the same bands in different ways."""

from hypothesis import strategies as st

from gru_audio.config import MelConfig

contracts = st.builds(
    MelConfig,
    spectrum=st.sampled_from(["magnitude", "power"]),
    log=st.sampled_from(["ln", "log10", "db"]),
    floor=st.sampled_from([1e-10, 1e-7, 1e-5, 1e-3]),
    scale=st.sampled_from([1.0, 0.0125, 4.0]),
    offset=st.sampled_from([0.0, 1.0, -4.0]),
)
