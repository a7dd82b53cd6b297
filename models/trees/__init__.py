"""Trees as arrays: the forest and exact Shapley values."""
