"""The model card: one page that stands for itself."""
