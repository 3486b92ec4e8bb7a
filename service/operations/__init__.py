"""What those who run the service look at: health, metrics, live workers."""
