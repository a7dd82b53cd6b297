"""What ``feast apply`` registers: all derived from ``feature_store/feature_definitions.py``."""

from configs.settings import load_settings
from feature_store.connect import ttl, view_ttl
from feature_store.feast_plugin.definitions import (
    feast_entity,
    feast_service,
    feast_source,
    feast_view,
)
from feature_store.feast_plugin.on_demand import on_demand_view, packed_view
from feature_store.feature_definitions import MODEL_VIEW, USER_ACTIVITY

settings = load_settings()

entity = feast_entity(MODEL_VIEW)
source = feast_source(MODEL_VIEW)
view = feast_view(MODEL_VIEW, entity, source, ttl(settings))

activity_source = feast_source(USER_ACTIVITY)
activity = feast_view(
    USER_ACTIVITY, entity, activity_source, view_ttl(settings, USER_ACTIVITY.schema)
)

packed = packed_view(MODEL_VIEW, entity, view)
on_request = on_demand_view(MODEL_VIEW, packed)
service = feast_service(settings.model_name, [view], owner=view.owner)
service_on_request = feast_service(f"{settings.model_name}_on_request", [on_request], view.owner)
