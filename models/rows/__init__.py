"""The rows of a training: split, folds, masked copies."""
