"""From what a person asked for to a plan: the model, the input looked at, the chunks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain

import numpy as np

from configs.command_line import note
from configs.settings import Settings
from feature_store.connect import ttl
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline.postgres import Postgres
from feature_store.offline_store import OfflineStore
from infrastructure.embedded import postgres_url
from models.artifact.artifact import ModelArtifact
from models.connect import current_deployment
from models.deployment.record import Arm
from pipelines.batch.errors import InputUnusable
from pipelines.batch.folders import Folder
from pipelines.batch.inputs import InputFile, Kind, OpenFile, columns_of, input_files, kind_of
from pipelines.batch.keys import KeyReader, Keys, entities
from pipelines.batch.output import Output
from pipelines.batch.plan import CHUNK_ROWS, ChunkPlanner, DeployedModel, Plan, changed_files
from pipelines.batch.worker import Job
from serving.connect import arm_to_serve, model_loader

VIEW = MODEL_VIEW


@dataclass(frozen=True)
class BatchRequest:
    """What a person asked for.

    Parameters
    ----------
    places
        Paths, folders, globs and ``s3://…``; none for all entities.
    model_version
        A label; None for the champion.
    as_of
        None for now.
    """

    places: tuple[str, ...] = ()
    model_version: str | None = None
    as_of: datetime | None = None
    limit: int | None = None
    explain: int = 0
    is_logged: bool = False
    chunk_rows: int = CHUNK_ROWS


def resolve_model(settings: Settings, label: str | None) -> tuple[DeployedModel, ModelArtifact]:
    """The version of a label, or the champion, with its checked artifact on this machine.

    Raises
    ------
    UnknownModel, NothingDeployed, ModelUnusable
        If there is none, or its files cannot be had.
    """
    arm = arm_to_serve(settings, label)
    artifact = model_loader(settings).artifact(arm)
    generation = 0
    if label is None:
        current = current_deployment(settings)
        generation = current.generation if current else 0
    model = DeployedModel(
        label=arm.label,
        version=arm.version,
        uri=arm.artifact_uri,
        digest=arm.digest,
        generation=generation,
        fingerprint=artifact.fingerprint,
        threshold=artifact.threshold,
    )
    return model, artifact


def planned_model(settings: Settings, model: DeployedModel) -> ModelArtifact:
    """The artifact of the version that a plan names, whatever serves by now.

    Raises
    ------
    ModelUnusable
        If its files cannot be had.
    """
    arm = Arm("champion", model.version, model.label, model.uri, model.digest)
    return model_loader(settings).artifact(arm)


def new_plan(
    request: BatchRequest,
    settings: Settings,
    model: DeployedModel,
    artifact: ModelArtifact,
    now: datetime,
) -> Plan:
    """Look at the whole input, and cut it into chunks.

    Raises
    ------
    InputUnusable
        If it cannot be read, lacks columns, has no rows, or repeats an entity.
    """
    plan = Plan(
        places=request.places,
        files=tuple(input_files(request.places, os.environ)),
        kind=Kind.everybody,
        entity=VIEW.entity,
        columns=(),
        model=model,
        as_of=request.as_of or now,
        scored_at=now,
        limit=request.limit,
        explain=request.explain,
        is_logged=request.is_logged,
        chunk_rows=request.chunk_rows,
        chunks=(),
        rows=0,
        checksum=0,
    )
    planner = ChunkPlanner(plan.chunk_rows, plan.limit)
    if plan.files:
        plan = _with_columns(plan, settings, artifact)
        for place, file in enumerate(plan.files):
            if not planner.is_full:
                planner.cut_file(place, _keys(plan, file, settings))
        everything = chain.from_iterable(_keys(plan, file, settings) for file in plan.files)
        planner.refuse_unusable(
            plan.entity, _limit_rows(everything, plan.limit), _name_of(plan, settings)
        )
    else:
        store = OfflineStore(Postgres(postgres_url(settings)))
        schema, known = artifact.feature_schema, plan.scored_at
        planner.cut_keys(entities(store, schema, plan.entity, as_of=plan.as_of, known_by=known))
        planner.refuse_unusable(plan.entity, iter(()))
    return replace(plan, chunks=tuple(planner.chunks), rows=planner.rows, checksum=planner.checksum)


def job_of(plan: Plan, place: str, settings: Settings) -> Job:
    """All that a process needs to carry out a plan."""
    needs_postgres = plan.is_logged or plan.kind.is_stored
    return Job(
        plan=plan,
        place=place,
        database_url=postgres_url(settings) if needs_postgres else None,
        texts=settings.deployment.prediction_texts,
        rename=settings.feature.source.rename,
        ttl=ttl(settings),
        environment=aws(os.environ),
    )


def aws(environment: Mapping[str, str]) -> dict[str, str]:
    """The ``AWS_…`` variables."""
    return {name: value for name, value in environment.items() if name.startswith("AWS_")}


def refuse_other_work(plan: Plan, request: BatchRequest) -> None:
    """Raise unless an unfinished plan is of what was asked for, and its input is as it was.

    Raises
    ------
    InputUnusable
        If not.
    """
    wanted = {
        "--input": (request.places, plan.places),
        "--limit": (request.limit, plan.limit),
        "--explain": (request.explain, plan.explain),
        "--log": (request.is_logged, plan.is_logged),
        "--chunk-rows": (request.chunk_rows, plan.chunk_rows),
        "--model-version": (request.model_version or plan.model.label, plan.model.label),
        "--as-of": (request.as_of or plan.as_of, plan.as_of),
    }
    for option, (now, then) in wanted.items():
        if now != then:
            raise InputUnusable(
                f"The unfinished run of {plan.partition} had {option} {then}, not {now}. Give the "
                "same options, or leave out --resume to begin anew."
            )
    changed = changed_files(plan.files, input_files(plan.places, os.environ))
    if changed:
        raise InputUnusable(
            f"{changed[0]} is not what it was when the unfinished run of {plan.partition} began. "
            "Leave out --resume to begin anew."
        )


def _with_columns(plan: Plan, settings: Settings, artifact: ModelArtifact) -> Plan:
    """The plan with what its rows are; every file has what is needed of the first one."""
    schema = artifact.feature_schema
    first = _open(plan.files[0], settings).schema.names
    kind = kind_of(first, VIEW, schema, plan.files[0].path)
    columns = columns_of(kind, first, VIEW, schema)
    for file in plan.files[1:]:
        absent = [name for name in columns if name not in _open(file, settings).schema.names]
        if absent:
            raise InputUnusable(
                f"{file.path} lacks the columns {', '.join(absent)} of {plan.files[0].path}."
            )
    return replace(plan, kind=kind, columns=tuple(columns))


def _open(file: InputFile, settings: Settings) -> OpenFile:
    return OpenFile(file, settings.feature.source.rename, os.environ)


def _keys(plan: Plan, file: InputFile, settings: Settings) -> Iterator[Keys]:
    """All keys of a file, block by block."""
    row, keys = 1, KeyReader(VIEW.key)
    for batch in _open(file, settings).batches(VIEW.key.columns):
        yield keys.read(batch, file.path, row)
        row += len(batch)


def _name_of(plan: Plan, settings: Settings) -> Callable[[int], str]:
    """What tells the key behind an identity of the input, for a message."""

    def find(identity: int) -> str:
        keys = KeyReader(VIEW.key)
        for file in plan.files:
            for batch in _open(file, settings).batches(VIEW.key.columns):
                texts = keys.texts(batch, file.path)
                places = np.flatnonzero(keys.read(batch, file.path) == identity)
                if texts is not None and len(places):
                    return str(texts[places[0]])
        return str(identity)

    return find


def _limit_rows(blocks: Iterator[Keys], limit: int | None) -> Iterator[Keys]:
    left = np.iinfo(np.int64).max if limit is None else limit
    for keys in blocks:
        yield keys[:left]
        left -= len(keys)
        if left <= 0:
            return


def parse_places(places: Sequence[str] | None) -> tuple[str, ...]:
    """The places of the command line: ``all`` and nothing stand for all entities."""
    return () if not places or list(places) == ["all"] else tuple(places)


def find_unfinished_plan(place: str, request: BatchRequest) -> Plan | None:
    """The plan of the newest unfinished run below a folder; None when there is nothing to resume.

    A run that ended just after its output had become visible is tidied up.

    Raises
    ------
    InputUnusable
        If it was of other work, or its input has changed.
    """
    root = Folder.of(place, os.environ)
    for partition in sorted(Output.unfinished_partitions(root), reverse=True):
        if request.as_of is not None and partition != f"date={request.as_of:%Y-%m-%d}":
            continue
        output = Output(root, partition)
        plan = output.plan()
        if plan is None or output.is_published(plan):
            output.tidy()
            continue
        refuse_other_work(plan, request)
        return plan
    note("there is nothing to resume: the run begins anew")
    return None
