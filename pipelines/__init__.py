"""The pipelines, each the story of its work from top to bottom, and their command lines."""
