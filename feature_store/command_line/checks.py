"""``validate``: whether the stored rows are what their definitions and their digests say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from configs.output import Answer, Table
from configs.settings import Settings
from feature_store import connect
from feature_store.command_line import activity
from feature_store.command_line.names import view_named
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.validation import check_column
from feature_store.offline.newest_rows import StoredRows, every_row, newest_rows
from feature_store.offline.tables import row_digests
from feature_store.offline.versions import ViewVersion
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore

ROWS_AT_ONCE = 5_000
"""Online rows that are compared in one round trip."""


@dataclass
class Findings:
    """What is wrong, by kind, with the first case of each."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, check: str, count: int, example: str) -> None:
        """Note that a check failed so many times."""
        if count:
            self.counts[check] += count
            self.first.setdefault(check, example)


def validate(view: str, sample: int | None, settings: Settings) -> tuple[Answer, bool]:
    """Check what both stores hold of a view; whether all is well comes second.

    Parameters
    ----------
    sample
        About so many entities are compared between the stores; None for all.
    """
    offline, defined = connect.offline_store(settings), view_named(view)
    version = offline.versions.readable(defined.schema)
    online = connect.online_store(settings, schema=defined.schema)
    findings = Findings()
    if defined.schema.is_windowed:
        rows, compared = _check_events(offline, online, version, sample, findings)
    else:
        rows = _check_offline(offline, version, defined.schema, findings)
        compared = _check_online(offline, online, version, sample, findings)
    data = {
        "view": view,
        "version": version.fingerprint,
        "offline_rows_checked": rows,
        "online_rows_compared": compared,
        "findings": [
            {"check": check, "rows": count, "first": findings.first[check]}
            for check, count in findings.counts.items()
        ],
    }
    title = (
        f"{view}, version {version.fingerprint}: {rows:,} offline rows checked, {compared:,} "
        f"entities compared online: {'all is well' if not findings.counts else 'findings'}"
    )
    lines = [(check, n, findings.first[check]) for check, n in findings.counts.items()]
    columns = ("finding", "rows", "first") if lines else ()
    return Answer(data, [Table(title, columns, lines)]), not findings.counts


def _check_offline(
    offline: OfflineStore, version: ViewVersion, schema: FeatureSchema, findings: Findings
) -> int:
    rows = 0
    for block in every_row(offline.postgres, version):
        rows += len(block)
        for place, feature in enumerate(schema.features):
            column = block.matrix.values[:, place]
            for row, why in list(check_column(feature, column).items()):
                example = f"{_where(block.matrix, version, row)}: {column[row]:g}, {why}"
                findings.add(f"{feature.name} is not valid", 1, example)
        altered = np.flatnonzero(row_digests(block.matrix.values) != block.digests)
        if len(altered):
            example = f"{_where(block.matrix, version, altered[0])}: its bits have another digest"
            findings.add("row was altered", len(altered), example)
    return rows


def _check_online(
    offline: OfflineStore,
    online: OnlineStore,
    version: ViewVersion,
    sample: int | None,
    findings: Findings,
) -> int:
    compared = 0
    for block in newest_rows(offline.postgres, version, _sampled(offline, version, sample)):
        for part in _parts(block):
            compared += len(part)
            _compare(online, version, part, findings)
    return compared


def _check_events(
    offline: OfflineStore,
    online: OnlineStore,
    version: ViewVersion,
    sample: int | None,
    findings: Findings,
) -> tuple[int, int]:
    rows, early = activity.too_early(offline)
    compared, wrong = 0, list(early)
    for users, differences in activity.check(offline, online, _one_in(offline, version, sample)):
        compared += users
        wrong += differences
    for check, where in wrong:
        findings.add(check, 1, where)
    return rows, compared


def _compare(
    online: OnlineStore, version: ViewVersion, block: StoredRows, findings: Findings
) -> None:
    matrix = block.matrix
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


def _sampled(offline: OfflineStore, version: ViewVersion, sample: int | None) -> Sequence[str]:
    """A condition that keeps about so many entities, always the same ones."""
    one_in = _one_in(offline, version, sample)
    return [f"abs(hashint8({version.entity})::bigint) % {one_in} = 0"] if one_in > 1 else []


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
