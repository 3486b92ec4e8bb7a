"""What the supervising process and the confined child say to each other."""
