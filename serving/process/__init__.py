"""Processes of the API: workers, listening, draining, shipping."""
