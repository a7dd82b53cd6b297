"""What answers beside ``/predict``."""
