"""A simulated world whose people and labels change."""
