"""Tables as probes: columns are arrays, and columns of numbers can be stacked to one."""
