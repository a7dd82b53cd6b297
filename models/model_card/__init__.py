"""The model card: one self-contained page that says what a model is, can do and cannot."""
