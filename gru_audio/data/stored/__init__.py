"""A dataset's files: what dataset.json says, the index of its clips, and the shards that hold them."""
