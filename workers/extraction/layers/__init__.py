"""The layers before the last one."""
