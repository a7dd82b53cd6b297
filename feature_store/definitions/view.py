"""A feature view: the features of one entity, in the order in which they are defined."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import get_args

from feature_store.definitions.entity import Entity
from feature_store.definitions.exact import ExactColumn, ExactType
from feature_store.definitions.names import LONGEST_VIEW, RESERVED, refuse_name
from feature_store.definitions.rules import refuse_unrepeatable
from feature_store.definitions.schema import FeatureDefinition, FeatureFunction, FeatureSchema, Kind
from feature_store.errors import DefinitionError


class FeatureView:
    """The features of one entity, in the order in which they are defined.

    Parameters
    ----------
    name
        The view's name.
    entity
        What the features are about: an `Entity`, or the name of one whose keys are whole numbers.
    tags
        Tags that every feature of the view carries.
    missing
        Texts that stand for a missing value in its raw columns, its keys and its times, in any
        letter case: ``?``, ``n/a``. The empty text always does.

    Examples
    --------
    >>> import numpy as np
    >>> view = FeatureView("people", entity="person_id")
    >>> _ = view.raw("height", unit="m", valid_range=(0, 3), description="Body height.")
    >>> @view.feature(unit="cm", valid_range=(0, 300))
    ... def height_cm(height):
    ...     "Body height in centimetres."
    ...     return height * np.float32(100)
    >>> view.schema.names
    ('height', 'height_cm')
    """

    def __init__(
        self,
        name: str,
        entity: Entity | str,
        tags: Mapping[str, str] | None = None,
        missing: Iterable[str] = (),
    ) -> None:
        refuse_name("View", name, LONGEST_VIEW)
        self.name = name
        self.key = Entity.of(entity)
        self.entity = self.key.name
        self.tags = dict(tags or {})
        self.missing_marks = tuple(missing)
        self.definitions: dict[str, FeatureDefinition] = {}
        self.fills: dict[str, FeatureDefinition] = {}
        self.exact: dict[str, ExactColumn] = {}

    def raw(
        self,
        name: str,
        *,
        description: str,
        categories: Iterable[str] = (),
        unit: str = "",
        valid_range: tuple[float, float] | None = None,
        integer: bool = False,
        boolean: bool = False,
        protected: bool = False,
        missing: Iterable[str] = (),
    ) -> FeatureDefinition:
        """Define a raw column; its kind follows from ``categories``, ``integer`` and ``boolean``.

        ``missing`` are marks of missing values beside those of the view.
        """
        words = tuple(categories)
        kind = self._kind_of(name, words=words, integer=integer, boolean=boolean)
        return self._add(
            FeatureDefinition(
                name=name,
                kind=kind,
                description=description,
                unit=unit,
                categories=words,
                valid_range=valid_range,
                protected=protected,
                missing_marks=(*self.missing_marks, *missing),
                tags=self.tags,
            )
        )

    def lookup(
        self,
        name: str,
        type: ExactType,  # noqa: A002 - what pandas, Arrow and Feast call it
        *,
        description: str,
        unit: str = "",
        protected: bool = False,
        missing: Iterable[str] = (),
    ) -> ExactColumn:
        """Define a raw column that is stored to the digit, as the given type.

        A model takes ``float64`` as the nearest float32, as a feature of the same name; ``int64``,
        ``string`` and ``timestamp`` are for lookup alone.

        Raises
        ------
        DefinitionError
            If there is no such type, or the name is taken.
        """
        if type not in get_args(ExactType):
            raise DefinitionError(
                f"Column '{name}' of '{self.name}' is of type {type!r}; expected "
                f"{', '.join(get_args(ExactType))}."
            )
        self._refuse_name(name, description)
        marks = (*self.missing_marks, *missing)
        column = ExactColumn(name, type, description, unit, protected, marks, self.tags)
        if type == "float64":
            self._add(
                FeatureDefinition(
                    name=name,
                    kind="number",
                    description=description,
                    unit=unit,
                    protected=protected,
                    missing_marks=marks,
                    tags=self.tags,
                    is_cast=True,
                )
            )
        self.exact[name] = column
        return column

    def feature(
        self,
        *,
        categories: Iterable[str] = (),
        unit: str = "",
        valid_range: tuple[float, float] | None = None,
        integer: bool = False,
        boolean: bool = False,
        version: int = 1,
    ) -> Callable[[FeatureFunction], FeatureFunction]:
        """Define a derived feature: the function's name, parameters and docstring are its own."""
        words = tuple(categories)

        def register(function: FeatureFunction) -> FeatureFunction:
            inputs, name = self._inputs_of(function), function.__name__
            kind = self._kind_of(name, words=words, integer=integer, boolean=boolean)
            self._add(
                FeatureDefinition(
                    name=name,
                    kind=kind,
                    description=inspect.cleandoc(function.__doc__ or "").split("\n\n")[0],
                    unit=unit,
                    categories=words,
                    valid_range=valid_range,
                    inputs=inputs,
                    function=function,
                    protected=any(self.definitions[name].protected for name in inputs),
                    tags=self.tags,
                    version=version,
                )
            )
            return function

        return register

    def fill(self, name: str) -> Callable[[FeatureFunction], FeatureFunction]:
        """Say how a raw column follows from other raw columns when it is absent."""

        def register(function: FeatureFunction) -> FeatureFunction:
            target = self.definitions[name]
            self.fills[name] = FeatureDefinition(
                name=name,
                kind=target.kind,
                description=target.description,
                categories=target.categories,
                inputs=self._inputs_of(function),
                function=function,
            )
            return function

        return register

    @property
    def schema(self) -> FeatureSchema:
        """The schema of all features."""
        return FeatureSchema(
            self.name,
            tuple(self.definitions.values()),
            key=self.key.digested,
            exact=tuple(self.exact.values()),
        )

    @property
    def raw_features(self) -> tuple[FeatureDefinition, ...]:
        """The raw columns, in order."""
        return tuple(f for f in self.definitions.values() if f.is_raw)

    @property
    def attribute_groups(self) -> tuple[tuple[str, ...], ...]:
        """Raw columns, those that follow from each other together: they are absent together."""
        groups: dict[str, list[str]] = {f.name: [f.name] for f in self.raw_features}
        for name, fill in self.fills.items():
            for source in fill.inputs:
                if groups[name] is not groups[source]:
                    groups[source].extend(groups[name])
                    for member in groups[name]:
                        groups[member] = groups[source]
        return tuple({id(group): tuple(group) for group in groups.values()}.values())

    def _kind_of(self, name: str, *, words: tuple[str, ...], integer: bool, boolean: bool) -> Kind:
        kinds: dict[Kind, bool] = {
            "category": bool(words),
            "integer": integer,
            "boolean": boolean,
        }
        chosen = [kind for kind, is_chosen in kinds.items() if is_chosen]
        if len(chosen) > 1:
            raise DefinitionError(
                f"Feature '{name}' of '{self.name}' is defined as {' and as '.join(chosen)}. "
                "Choose one."
            )
        return chosen[0] if chosen else "number"

    def _inputs_of(self, function: FeatureFunction) -> tuple[str, ...]:
        refuse_unrepeatable(function)
        inputs = tuple(inspect.signature(function).parameters)
        unknown = [name for name in inputs if name not in self.definitions]
        if unknown and unknown[0] in self.exact:
            raise DefinitionError(
                f"Feature '{function.__name__}' takes '{unknown[0]}', an exact column of type "
                f"{self.exact[unknown[0]].type}: it is for lookup, and no function can take it. "
                "Define what it tells as a number or a category of its own."
            )
        if unknown:
            raise DefinitionError(
                f"Feature '{function.__name__}' takes '{unknown[0]}', which '{self.name}' does not "
                f"define above it. Known so far: {', '.join(self.definitions)}."
            )
        return inputs

    def _add(self, definition: FeatureDefinition) -> FeatureDefinition:
        self._refuse_name(definition.name, definition.description)
        self.definitions[definition.name] = definition
        return definition

    def _refuse_name(self, name: str, description: str) -> None:
        refuse_name("Feature", name)
        if name in self.definitions or name in self.exact:
            raise DefinitionError(
                f"Feature '{name}' is defined twice in '{self.name}'. Rename one."
            )
        if name in {self.entity, *RESERVED}:
            raise DefinitionError(
                f"Feature '{name}' of '{self.name}' has the name of a column that every "
                f"view's table has: {', '.join((self.entity, *RESERVED))}. Rename it."
            )
        if not description:
            raise DefinitionError(f"Feature '{name}' has no description. Give it a docstring.")
