"""Redis: the packed row, conditional writes, deadlines, versions."""
