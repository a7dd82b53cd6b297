"""Events out of a Kafka topic, with the offsets in PostgreSQL (extra ``kafka``).

============  =====================================================================
connection    the members of the port, made of values
client        addresses, options, errors; ends of partitions
offsets       the table of offsets: who reads a partition, and what is done of it
progress      what of a partition is done without a gap
group         a consumer's part in the group: takes messages and is done with them
event_stream  appends events, and says how far the consumers are behind
dead_letters  messages that could not be applied
============  =====================================================================

An offset moves after PostgreSQL has committed the effect and Redis holds the online rows, in one
transaction with the dead letters; a message that comes again has no second effect, since an event
counts once by its id. Stored with the data, offsets come back with a backup of it.
"""
