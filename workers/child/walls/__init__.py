"""The walls around a child: what the kernel refuses it, whatever code it runs."""
