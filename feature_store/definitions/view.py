"""A feature view: the features of one entity, in the order in which they are defined."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import get_args

from feature_store.definitions.arrays import ArrayColumn
from feature_store.definitions.entity import Entity
from feature_store.definitions.exact import ExactColumn, ExactType
from feature_store.definitions.inputs import inputs_of, kind_of
from feature_store.definitions.names import LONGEST_VIEW, REQUEST_FIELDS, RESERVED, refuse_name
from feature_store.definitions.schema import FeatureDefinition, FeatureFunction, FeatureSchema
from feature_store.errors import DefinitionError

MOST_COLUMNS = 1_500
"""Of a view: a table of PostgreSQL holds 1,600 columns, and 8 kB of a row in one piece."""


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
        self.arrays: dict[str, ArrayColumn] = {}

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
        open_to: int | None = None,
        protected: bool = False,
        missing: Iterable[str] = (),
    ) -> FeatureDefinition:
        """Define a raw column; its kind follows from ``categories``, ``integer`` and ``boolean``.

        ``missing`` are marks of missing values beside those of the view. ``open_to`` makes it a
        category whose vocabulary is open: the first so many words that come in are learned, in the
        order in which they come, and keep their codes for ever; further ones are unseen.
        """
        words = tuple(categories)
        chosen = {"category": bool(words), "integer": integer, "boolean": boolean}
        chosen["open vocabulary"] = open_to is not None
        kind = kind_of(f"'{name}' of '{self.name}'", chosen)
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
                open_to=open_to,
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

    def array(
        self,
        name: str,
        size: int,
        *,
        description: str,
        unit: str = "",
        protected: bool = False,
        missing: Iterable[str] = (),
    ) -> ArrayColumn:
        """Define a raw column that holds lists of ``size`` float32 numbers, such as an embedding.

        A model takes it as so many features, ``name_0`` and so on; functions take these.

        Raises
        ------
        DefinitionError
            If the size is none, a name is taken, or the view grows too large.

        Examples
        --------
        >>> faces = FeatureView("faces", entity="face_id")
        >>> faces.array("face", 128, description="What the camera saw.").members[-1]
        'face_127'
        """
        self._refuse_name(name, description)
        marks = (*self.missing_marks, *missing)
        column = ArrayColumn(name, size, description, unit, protected, marks, self.tags)
        for place, member in enumerate(column.members):
            self._add(
                FeatureDefinition(
                    name=member,
                    kind="number",
                    description=f"Place {place} of {name}: {description}",
                    unit=unit,
                    protected=protected,
                    tags=self.tags,
                    array=(name, size),
                )
            )
        self.arrays[name] = column
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
        """Define a derived feature: the function's name, parameters and docstring are its own.

        A function takes features, or timestamps alone: these come as datetime64[us] ``(n,)`` with
        NaT for missing ones.

        Examples
        --------
        >>> import numpy as np
        >>> view = FeatureView("accounts", entity="account_id")
        >>> _ = view.lookup("opened", "timestamp", description="When it was opened.")
        >>> @view.feature(unit="h", valid_range=(0, 23))
        ... def hour_opened(opened):
        ...     "Hour of the day at which it was opened."
        ...     hours = opened.astype("datetime64[h]") - opened.astype("datetime64[D]")
        ...     return (hours / np.timedelta64(1, "h")).astype(np.float32)
        """
        words = tuple(categories)

        def register(function: FeatureFunction) -> FeatureFunction:
            inputs, name = inputs_of(function, self), function.__name__
            chosen = {"category": bool(words), "integer": integer, "boolean": boolean}
            kind = kind_of(f"'{name}' of '{self.name}'", chosen)
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
                    protected=any(self._input(name).protected for name in inputs),
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
                inputs=inputs_of(function, self, is_fill=True),
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
    def timed_features(self) -> tuple[FeatureDefinition, ...]:
        """The features that are functions of timestamps, in order."""
        features = self.definitions.values()
        return tuple(f for f in features if not f.is_raw and f.inputs[0] not in self.definitions)

    @property
    def attributes(self) -> tuple[str, ...]:
        """What features are made from, as a source has it: an array is one column, in order."""
        raw = [f.array[0] if f.array else f.name for f in self.raw_features]
        return tuple(dict.fromkeys([*raw, *self.timestamps]))

    @property
    def timestamps(self) -> tuple[str, ...]:
        """The timestamps that functions take, in order."""
        return tuple(dict.fromkeys(name for f in self.timed_features for name in f.inputs))

    @property
    def attribute_groups(self) -> tuple[tuple[str, ...], ...]:
        """Raw columns, those that follow from each other together: they are absent together.

        So are the places of an array, and all functions of timestamps, which stand here for what
        they are made from.
        """
        groups: dict[str, list[str]] = {f.name: [f.name] for f in self.raw_features}
        timed = tuple(feature.name for feature in self.timed_features)
        for together in (*(array.members for array in self.arrays.values()), timed):
            group = list(together)
            groups |= dict.fromkeys(together, group)
        for name, fill in self.fills.items():
            for source in fill.inputs:
                if groups[name] is not groups[source]:
                    groups[source].extend(groups[name])
                    for member in groups[name]:
                        groups[member] = groups[source]
        return tuple({id(group): tuple(group) for group in groups.values()}.values())

    def with_words(self, words: Mapping[str, Sequence[str]]) -> FeatureView:
        """The same view with the words that open vocabularies have by now."""
        if not any(feature.open_to for feature in self.definitions.values()):
            return self
        view = copy.copy(self)
        view.definitions = {
            name: each.with_words(words[name]) if each.open_to and name in words else each
            for name, each in self.definitions.items()
        }
        return view

    def _input(self, name: str) -> FeatureDefinition | ExactColumn:
        return self.definitions[name] if name in self.definitions else self.exact[name]

    def _add(self, definition: FeatureDefinition) -> FeatureDefinition:
        self._refuse_name(definition.name, definition.description)
        self.definitions[definition.name] = definition
        return definition

    def _refuse_name(self, name: str, description: str) -> None:
        refuse_name("Feature", name)
        if name in self.definitions or name in self.exact or name in self.arrays:
            raise DefinitionError(
                f"Feature '{name}' is defined twice in '{self.name}'. Rename one."
            )
        if name in {self.entity, *RESERVED}:
            raise DefinitionError(
                f"Feature '{name}' of '{self.name}' has the name of a column that every "
                f"view's table has: {', '.join((self.entity, *RESERVED))}. Rename it."
            )
        if name in REQUEST_FIELDS:
            raise DefinitionError(
                f"Feature '{name}' of '{self.name}' has the name of a field that every request to "
                "the API has. Rename it; let 'source.rename' say what the source calls it."
            )
        if not description:
            raise DefinitionError(f"Feature '{name}' has no description. Give it a docstring.")
        if len(self.definitions) + len(self.exact) >= MOST_COLUMNS:
            raise DefinitionError(
                f"'{self.name}' has more than {MOST_COLUMNS:,} columns with '{name}', each place "
                "of an array being one: PostgreSQL holds no wider row. Make it two views."
            )
