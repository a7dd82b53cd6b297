"""References to features of any view: ``view:feature``, ``feature``, ``view:*``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from configs.errors import did_you_mean
from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.windowed_view import View
from feature_store.errors import FeatureStoreError, UnknownFeature
from feature_store.feature_definitions import MODEL_VIEW, VIEWS


@dataclass(frozen=True)
class Reference:
    """One feature of one view."""

    view: View
    name: str


def resolve(references: Sequence[str]) -> list[Reference]:
    """What is meant, in order; a feature that is named twice comes once.

    A name without a view is looked for in all, ``*`` alone stands for the view of the models.

    Raises
    ------
    UnknownFeature
        If the view or the feature is not defined; the message names the nearest.

    Examples
    --------
    >>> [each.view.name for each in resolve(["age", "user_activity:events_count_7d"])]
    ['user_features', 'user_activity']
    """
    found: dict[tuple[str, str], Reference] = {}
    for reference in references:
        name, _, feature = reference.rpartition(":")
        view = view_named(name) if name else _view_with(feature)
        names = view.schema.columns if feature == "*" else [feature]
        for each in names:
            view.schema.require(each)
            found[view.name, each] = Reference(view, each)
    return list(found.values())


def by_view(references: Sequence[Reference]) -> list[tuple[View, FeatureSchema]]:
    """Each view once, with the schema of what is wanted of it."""
    views = {each.view.name: each.view for each in references}
    return [
        (view, view.schema.select([each.name for each in references if each.view is view]))
        for view in views.values()
    ]


def refuse_several_entities(references: Sequence[Reference]) -> None:
    """Refuse features that no single key leads to.

    Raises
    ------
    FeatureStoreError
        If the views are about several entities.
    """
    first = references[0].view
    for each in references:
        if each.view.key != first.key:
            raise FeatureStoreError(
                f"'{first.name}' is about '{first.entity}' and '{each.view.name}' is about "
                f"'{each.view.entity}': no one key leads to both. Ask for them apart."
            )


def view_named(name: str, views: Sequence[View] = VIEWS) -> View:
    """The view with this name.

    Raises
    ------
    UnknownFeature
        If there is none; the message names the nearest.
    """
    known = {view.name: view for view in views}
    if name not in known:
        raise UnknownFeature(
            f"View '{name}' is not defined. {did_you_mean(name, known, 0.5)}"
            f"Known: {', '.join(known)}."
        )
    return known[name]


def _view_with(feature: str) -> View:
    return next((view for view in VIEWS if feature in view.schema.columns), MODEL_VIEW)
