"""The servers under the system: started here on one machine, replaced by URLs anywhere else."""
