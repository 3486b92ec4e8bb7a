"""Files that hold named arrays, which are read where they lie, and what the arrays are for."""
