"""What a file is, and pictures of it in the terminal."""
