"""What people have: folders of audio in any layout, listings, archives; each gives recordings without a name."""
