"""The running product under faults: what is accepted ends once, with the report it would have."""
