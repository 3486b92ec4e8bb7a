"""What the processes stand on: settings, database, file store, notifications, logs."""
