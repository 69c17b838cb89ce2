"""Files and pipes in, files and pipes out."""
