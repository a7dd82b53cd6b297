"""Our stores under Feast's API; nothing outside this package imports Feast, which takes seconds.

=================  ==================================================================
definitions        Feast's entity, source, view and service, derived from our views
field_values       one field: what is stored of it as Feast's values, and back
identity           which of Feast's views and sources are ours
deletion           what teardown and apply may delete
offline_store      point-in-time reads, pulls and writes in PostgreSQL
asked_views        what a historical request asks of each view, and of whom
pushed_rows        rows that clients push to our views, into matrices
appending          rows of a client into a table of somebody else's
online_store       packed rows in Redis, one round trip a request, every wait bounded
stored_views       what one Feast project has in Redis
foreign_rows       rows of views of the user's own
reading            what a request reads of one view
planning           online requests planned once, answered without messages
exact_times        times to the microsecond beside messages of whole seconds
rendering          a planned answer as text
serving            the short way of ``feast serve``
batch_engine       ``feast materialize`` without one message a value
on_demand          the features as a request changes them
registry_store     Feast's registry as one row in PostgreSQL
logging            the table that ``write_logged_features`` fills
=================  ==================================================================

``feast_repo/feature_store.yaml`` names these classes.
"""
