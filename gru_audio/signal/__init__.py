"""Audio, mels, mu-law, linear prediction, pitch: what the network reads and what its codes become."""
