"""What can go wrong in the feature store.

FeatureStoreError
├── DefinitionError       a feature is defined in a way that the engine refuses
├── UnknownFeature        a name that no view defines
├── SourceError           a source is missing, out of reach, altered or damaged
├── ValidationFailed      more bad rows than the settings allow
├── InvalidValue          a raw value that its feature cannot have
├── KeyCollision          two keys of an entity would be stored under one identity
├── InvalidEvent          an event that cannot be stored as it is
├── StreamFull            consumers do not keep up with the events that come
├── SchemaMismatch        stored bytes belong to another definition of the features
├── UnknownVersion        a fingerprint under which nothing is stored
├── VersionInUse          a version that may not be dropped
├── VersionIncomplete     a version that may not be switched to yet
├── RegistryChanged       two processes changed Feast's registry at once
├── EntityNotFound        the online store has no row for the entity
└── StoreUnavailable      PostgreSQL or Redis does not answer (in time)
"""

from configs.errors import FTIError


class FeatureStoreError(FTIError):
    """Any error of this room."""


class DefinitionError(FeatureStoreError):
    """A feature is defined in a way that the engine refuses."""


class UnknownFeature(FeatureStoreError):
    """A name that no view defines."""


class SourceError(FeatureStoreError):
    """A source is missing, out of reach, altered or damaged."""


class ValidationFailed(FeatureStoreError):
    """More bad rows than the settings allow."""


class InvalidValue(FeatureStoreError):
    """A raw value that its feature cannot have."""


class KeyCollision(FeatureStoreError):
    """Two keys of an entity would be stored under one identity."""


class InvalidEvent(FeatureStoreError):
    """An event that cannot be stored as it is."""


class StreamFull(FeatureStoreError):
    """Consumers do not keep up with the events that come."""


class SchemaMismatch(FeatureStoreError):
    """Stored bytes belong to another definition of the features."""


class UnknownVersion(FeatureStoreError):
    """A fingerprint under which nothing is stored."""


class VersionInUse(FeatureStoreError):
    """A version that may not be dropped: it is current, or a deployed model reads it."""


class VersionIncomplete(FeatureStoreError):
    """A version that may not be switched to: entities of the current one are missing."""


class RegistryChanged(FeatureStoreError):
    """Two processes changed Feast's registry at once; the first one's change stands."""


class EntityNotFound(FeatureStoreError):
    """The online store has no row for the entity."""


class StoreUnavailable(FeatureStoreError):
    """PostgreSQL or Redis does not answer, or not in time."""
