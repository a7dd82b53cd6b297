"""What ``feast apply`` registers: all derived from ``feature_store/feature_definitions.py``."""

from configs.settings import load_settings
from feature_store.connect import ttl, view_ttl
from feature_store.feast_plugin.definitions import (
    feast_entities,
    feast_service,
    feast_source,
    feast_view,
)
from feature_store.feast_plugin.on_demand import on_demand_view, packed_view
from feature_store.feature_definitions import MODEL_VIEW, USER_ACTIVITY

settings = load_settings()

entities = feast_entities(MODEL_VIEW)
# Feast registers what has a name here; of a key of several parts each part is an entity.
entity, *others = entities
globals().update({f"entity_{other.name}": other for other in others})
source = feast_source(MODEL_VIEW)
view = feast_view(MODEL_VIEW, entities, source, ttl(settings))

activity_source = feast_source(USER_ACTIVITY)
activity = feast_view(
    USER_ACTIVITY, entities, activity_source, view_ttl(settings, USER_ACTIVITY.schema)
)

service = feast_service(settings.model_name, [view], owner=view.owner)
# Feast runs on-demand views where the words of open vocabularies are not known.
if not MODEL_VIEW.schema.open_features:
    packed = packed_view(MODEL_VIEW, entities, view)
    on_request = on_demand_view(MODEL_VIEW, packed)
    service_on_request = feast_service(
        f"{settings.model_name}_on_request", [on_request], view.owner
    )
