"""What the rows of an input are: whole features, raw attributes, or entities to look up."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum

from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.view import FeatureView
from pipelines.batch.errors import InputUnusable


class Kind(StrEnum):
    """What is known of each row."""

    features = "features"
    """Everything that the model takes."""
    attributes = "raw attributes"
    """Raw attributes, from which the features are computed."""
    entities = "entity ids"
    """Whom it is about: the features are in the offline store."""
    everybody = "all entities of the offline store"


def kind_of(names: Collection[str], view: FeatureView, schema: FeatureSchema, path: str) -> Kind:
    """What the columns of an input say of its rows.

    Raises
    ------
    InputUnusable
        If the entity, or some of the attributes, are missing.
    """
    if view.entity not in names:
        raise InputUnusable(
            f"{path} has no column '{view.entity}'; it has {_listed(names)}. Add the column, or "
            "rename it with 'source.rename' in the feature settings."
        )
    raw = [feature.name for feature in view.raw_features]
    if set(schema.names) <= set(names):
        return Kind.features
    if not set(raw) & set(names):
        return Kind.entities
    absent = [group for group in view.attribute_groups if not set(group) & set(names)]
    if absent:
        missing = ", ".join(" or ".join(group) for group in absent)
        raise InputUnusable(
            f"{path} lacks the columns {missing}. Give all raw attributes, all {len(schema)} "
            f"features, or {view.entity} alone."
        )
    return Kind.attributes


def columns_of(
    kind: Kind, names: Sequence[str], view: FeatureView, schema: FeatureSchema
) -> list[str]:
    """The columns that are read of an input that has so many, the entity first."""
    if kind is Kind.features:
        return [view.entity, *schema.names]
    if kind is Kind.attributes:
        return [view.entity, *(f.name for f in view.raw_features if f.name in names)]
    return [view.entity]


def _listed(names: Collection[str]) -> str:
    shown = list(names)[:10]
    return ", ".join(shown) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
