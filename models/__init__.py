"""Models behind one interface, their evaluation, their artifacts and their registry."""
