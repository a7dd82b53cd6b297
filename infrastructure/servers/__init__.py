"""The servers on this machine: found, started, recorded and stopped."""
