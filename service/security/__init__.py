"""What misbehaved, for the operator's eyes, and which files are kept from running again."""
