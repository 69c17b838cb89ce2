"""Audio in files: what a file's bytes are, whether it is whole, reading it in pieces, and writing it as it comes."""
