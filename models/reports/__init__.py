"""What people read of a training: evaluation, plots and the model card."""
