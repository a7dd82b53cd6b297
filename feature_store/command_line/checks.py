"""``validate``: whether the stored rows are what their definitions and their digests say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

import numpy as np
import typer

from configs.command_line import AsJson, Debug
from configs.output import Display, Table, show
from configs.settings import Settings, load_settings
from feature_store import connect
from feature_store.command_line import activity
from feature_store.command_line.names import ViewOption
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.validation import check_column
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline.newest_rows import (
    StoredRows,
    events_before,
    every_row,
    newest_rows,
)
from feature_store.offline.tables import exact_packed, row_digests
from feature_store.offline.versions import ViewVersion
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore
from feature_store.references import view_named

ROWS_AT_ONCE = 5_000
"""Online rows that are compared in one round trip."""

commands = typer.Typer()


@dataclass
class Findings:
    """What is wrong with a stored version, by kind, with the first case of each."""

    version: ViewVersion
    rows: int = 0
    """How many were checked offline."""
    compared: int = 0
    """Entities whose newest rows were compared between the stores."""
    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, check: str, count: int, example: str) -> None:
        """Note that a check failed so many times."""
        if count:
            self.counts[check] += count
            self.first.setdefault(check, example)


@commands.command(
    epilog="Examples: … validate · … validate --sample 1000; exits with 1 on findings"
)
def validate(
    view: ViewOption = MODEL_VIEW.name,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Compare about so many entities online; else all.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check stored rows: ranges, categories, digests, and online against offline."""
    found = check_view(view, sample, load_settings())
    fingerprint = found.version.fingerprint
    lines = [(check, rows, found.first[check]) for check, rows in found.counts.items()]
    data = {
        "view": view,
        "version": fingerprint,
        "offline_rows_checked": found.rows,
        "online_rows_compared": found.compared,
        "findings": [dict(zip(("check", "rows", "first"), line, strict=True)) for line in lines],
    }
    title = (
        f"{view}, version {fingerprint}: {found.rows:,} offline rows checked, "
        f"{found.compared:,} entities compared online: {'findings' if lines else 'all is well'}"
    )
    columns = ("finding", "rows", "first") if lines else ()
    show(Display(data, [Table(title, columns, lines)]), as_json=as_json)
    if lines:
        raise typer.Exit(1)


def check_view(view: str, sample: int | None, settings: Settings) -> Findings:
    """Check what both stores hold of a view.

    Parameters
    ----------
    sample
        About so many entities are compared between the stores; None for all.
    """
    offline, schema = connect.offline_store(settings), view_named(view).schema
    findings = Findings(offline.versions.readable(schema))
    online = connect.online_store(settings, schema=schema)
    if schema.is_windowed:
        _check_events(offline, online, sample, findings)
    else:
        _check_offline(offline, schema, findings)
        _check_online(offline, online, sample, findings)
    return findings


def _check_offline(offline: OfflineStore, schema: FeatureSchema, findings: Findings) -> None:
    version = findings.version
    for block in every_row(offline.postgres, version):
        findings.rows += len(block)
        for place, feature in enumerate(schema.features):
            column = block.matrix.values[:, place]
            for row, why in list(check_column(feature, column).items()):
                example = f"{_where(block.matrix, version, row)}: {column[row]:g}, {why}"
                findings.add(f"{feature.name} is not valid", 1, example)
        digests = row_digests(block.matrix.values, exact_packed(block.matrix))
        altered = np.flatnonzero(digests != block.digests)
        if len(altered):
            example = f"{_where(block.matrix, version, altered[0])}: its bits have another digest"
            findings.add("row was altered", len(altered), example)


def _check_online(
    offline: OfflineStore, online: OnlineStore, sample: int | None, findings: Findings
) -> None:
    version = findings.version
    one_in = _one_in(offline, version, sample)
    # Always the same entities.
    chosen = [f"abs(hashint8({version.entity})::bigint) % {one_in} = 0"] if one_in > 1 else []
    chosen.append(events_before(datetime.now(UTC)))
    for block in newest_rows(offline.postgres, version, chosen):
        findings.compared += len(block)
        for part in _parts(block):
            _compare(online, part, findings)


def _check_events(
    offline: OfflineStore, online: OnlineStore, sample: int | None, findings: Findings
) -> None:
    findings.rows, wrong = activity.too_early(offline)
    one_in = _one_in(offline, findings.version, sample)
    for users, differences in activity.check(offline, online, one_in):
        findings.compared += users
        wrong += differences
    for check, where in wrong:
        findings.add(check, 1, where)


def _compare(online: OnlineStore, block: StoredRows, findings: Findings) -> None:
    matrix, version = block.matrix, findings.version
    events, created = matrix.times.astype(np.int64), block.created.astype(np.int64)
    for row, stored in enumerate(online.read_even_expired(matrix.keys.tolist())):
        where = _where(matrix, version, row)
        if stored is None:
            findings.add("entity is missing online", 1, where)
            continue
        times = (stored.event_time_us, stored.created_time_us)
        newest = (int(events[row]), int(created[row]))
        if times < newest:
            findings.add("online row is older than the offline one", 1, where)
        elif times > newest:
            findings.add("online row is not in the offline store", 1, where)
        elif stored.vector.tobytes() != matrix.values[row].tobytes():
            changed = np.flatnonzero(
                stored.vector.view(np.uint32) != matrix.values[row].view(np.uint32)
            )
            name = version.schema.names[int(changed[0])]
            findings.add("online values differ from the offline ones", 1, f"{where}: {name}")


def _one_in(offline: OfflineStore, version: ViewVersion, sample: int | None) -> int:
    if sample is None:
        return 1
    count = f"SELECT count(DISTINCT {version.entity}) FROM {version.table}"
    with offline.postgres.transaction() as connection:
        row = connection.execute(count).fetchone()
    return max(1, (row[0] if row else 0) // sample)


def _parts(block: StoredRows) -> Iterator[StoredRows]:
    for start in range(0, len(block), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        rows = block.matrix.rows(np.arange(len(block))[part])
        yield StoredRows(rows, block.created[part], block.digests[part])


def _where(matrix: FeatureMatrix, version: ViewVersion, row: int) -> str:
    return f"{version.entity} {matrix.keys[row]} at {np.datetime_as_string(matrix.times[row], 's')}"
