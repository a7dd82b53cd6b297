"""Raw rows out of an API that answers with pages of JSON records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.sources import HttpReading
from feature_store.errors import SourceError
from feature_store.sources.cursors import CursorProgress, CursorValue, parsed_cursor
from feature_store.sources.http_client import ApiClient, shown
from feature_store.sources.port import Batch, Batches, Broken, Position, Reading

if TYPE_CHECKING:
    import httpx


@dataclass(eq=False)
class HttpSource:
    """Records of an API, page by page.

    Parameters
    ----------
    config
        Where, and how its pages are turned.
    connect
        Gives a client for one reading.
    now
        Gives the time.
    """

    config: HttpReading
    connect: Callable[[], ApiClient]
    _: KW_ONLY
    name: str = "http"
    now: Callable[[], datetime] | None = None

    def read(self, after: Position | None = None) -> Reading:
        """Read all records, or those from the cursor's last value less the lookback on."""
        return Reading(self._batches(after))

    def _batches(self, after: Position | None) -> Batches:
        progress = CursorProgress(self.config, after, self.now)
        # What an earlier reading saw; later pages must not move it.
        since = progress.since
        read, where = 0, shown(self.config.url)
        for records in self._pages(since):
            kept, broken = self._kept(records, since, progress)
            numbers = np.array([place for place, _ in kept], dtype=np.int64) + read + 1
            read += len(records)
            if kept:
                frame = _frame([record for _, record in kept], self.config.columns)
                if (yield Batch(where, numbers, numbers, frame, broken)):
                    good = [record for n, (_, record) in enumerate(kept) if n not in broken]
                    progress.hold_back(_smallest(good, progress.column))
        return progress.position

    def _pages(self, since: Any) -> Iterator[Sequence[Any]]:
        import httpx

        params = dict(self.config.params)
        if self.config.since_param and since is not None:
            text = since.isoformat() if isinstance(since, datetime) else str(since)
            params[self.config.since_param] = text
        if self.config.paging == "page":
            params[self.config.page_param] = str(self.config.first_page)
        url: httpx.URL | None = httpx.URL(self.config.url).copy_merge_params(params)
        asked: set[str] = set()
        client = self.connect()
        try:
            while url is not None:
                if str(url) in asked:
                    raise SourceError(f"The pages of {shown(url)} go round in a circle.")
                asked.add(str(url))
                answer, link = client.get(url)
                records = self._records(answer, url)
                yield records
                url = self._next(url, answer, link, records)
        finally:
            client.close()

    def _records(self, answer: Any, url: httpx.URL) -> Sequence[Any]:
        records = _at(answer, self.config.records)
        if not isinstance(records, list):
            raise SourceError(
                f"{shown(url)} has no list of records at '{self.config.records or 'its top'}' but "
                f"{type(records).__name__}. Set 'records' to the path of the list."
            )
        return records

    def _next(
        self, url: httpx.URL, answer: Any, link: str | None, records: Sequence[Any]
    ) -> httpx.URL | None:
        """The next page's address, None after the last one."""
        paging, param = self.config.paging, self.config.page_param
        if paging == "page":
            page = int(url.params[param]) + 1
            return url.copy_set_param(param, page) if records else None
        following = _at(answer, self.config.next_field)
        if paging == "cursor":
            return url.copy_set_param(param, following) if following not in {None, ""} else None
        if paging == "link":
            target = following or link
            return url.join(str(target)) if target else None
        return None

    def _kept(
        self, records: Sequence[Any], since: Any, progress: CursorProgress
    ) -> tuple[list[tuple[int, Mapping[str, Any]]], dict[int, Broken]]:
        """Records with their places; not those from before, which an API may send unasked."""
        kept: list[tuple[int, Mapping[str, Any]]] = []
        broken: dict[int, Broken] = {}
        for place, record in enumerate(records):
            if not isinstance(record, dict):
                reason = f"the record is a {type(record).__name__}, expected an object"
                broken[len(kept)] = Broken(reason, {"record": record})
                kept.append((place, {}))
                continue
            if progress.column is not None:
                try:
                    value = parsed_cursor(record.get(progress.column))
                    if since is not None and value < since:
                        continue
                    progress.saw(value)
                except (ValueError, TypeError):
                    found = record.get(progress.column)
                    reason = f"{progress.column}, the cursor, is {found!r}"
                    broken[len(kept)] = Broken(f"{reason}, expected a time or number", record)
            kept.append((place, record))
        return kept, broken


def _smallest(records: Sequence[Mapping[str, Any]], column: str | None) -> CursorValue | None:
    """The smallest cursor of some records; None without one."""
    cursors = [parsed_cursor(record.get(column)) for record in records] if column else []
    return min(cursors, default=None)


def _at(answer: Any, path: str) -> Any:
    """What a dotted path leads to; None where it leads nowhere."""
    for name in path.split(".") if path else ():
        answer = answer.get(name) if isinstance(answer, dict) else None
    return answer


def _frame(records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Any:
    import polars as pl

    texts = {name: [_text(_at(record, name)) for record in records] for name in columns}
    return pl.DataFrame(texts, schema=dict.fromkeys(columns, pl.String))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode(errors="replace").decode()  # JSON may hold half characters
