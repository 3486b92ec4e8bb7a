"""Files that no honest client sends, each made from a good one by one change."""
