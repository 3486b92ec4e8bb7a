"""The queue: rows that say what is to be run, by whom, until when."""
