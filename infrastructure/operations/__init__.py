"""What an operator runs: backups, partitions, commands on the database."""
