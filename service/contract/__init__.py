"""What API and workers agree on: the words, options and limits that pass between them."""
