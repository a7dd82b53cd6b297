"""One small world a kind of source: rows can be put into it, and it can be broken."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import polars as pl

from configs.sources import FileReading, HttpReading, SourceFile, SqlReading
from feature_store.offline.postgres import Postgres
from feature_store.sources.files import FileSource
from feature_store.sources.http import HttpSource
from feature_store.sources.http_client import ApiClient
from feature_store.sources.port import Source
from feature_store.sources.reference import ReferenceSource
from feature_store.sources.sql import SqlSource

SECRET = "s3cr3t-hunter2"
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
LOOKBACK_S = 300
PERSON: dict[str, Any] = {
    **{"age": 39, "workclass": "State-gov", "fnlwgt": 77516, "education": "Bachelors"},
    **{"education_num": 13, "marital_status": "Never-married", "occupation": "Adm-clerical"},
    **{"relationship": "Not-in-family", "race": "White", "sex": "Male", "capital_gain": 2174},
    **{"capital_loss": 0, "hours_per_week": 40, "native_country": "United-States"},
    **{"income": "<=50K"},
}
COLUMNS = ("user_id", "updated_at", *PERSON)
Row = dict[str, Any]


def person(key: int, minutes: float = 0, **changes: Any) -> Row:
    """A row that was updated so many minutes after noon."""
    updated = NOON + timedelta(minutes=minutes)
    return {"user_id": key, "updated_at": updated, **PERSON, **changes}


class World:
    """Rows somewhere outside, and the source that reads them."""

    tells_late_rows_by_cursor = False

    def source(self) -> Source:
        raise NotImplementedError

    def add(self, *rows: Row) -> None:
        raise NotImplementedError

    def remove(self) -> None:
        """Make it missing or unreachable."""
        raise NotImplementedError

    def damage(self) -> None:
        """Make reading end in the middle."""
        raise NotImplementedError


class CsvWorld(World):
    """Text that grows; the secret plays no part."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "people.csv"

    def source(self) -> Source:
        config = FileReading(files=(SourceFile(path="people.csv*"),))
        return FileSource(config, self.folder, {}, name="people", is_counted=False)

    def add(self, *rows: Row) -> None:
        is_new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(COLUMNS)
            writer.writerows([_texts(row).values() for row in rows])

    def remove(self) -> None:
        self.path.unlink()

    def damage(self) -> None:
        # Only what has a check of its own can be seen to be cut.
        whole = gzip.compress(self.path.read_bytes() * 2000)
        (self.folder / "people.csv.gz").write_bytes(whole[:-2000])


class ParquetWorld(World):
    """One more file a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def source(self) -> Source:
        config = FileReading(files=(SourceFile(path="*.parquet"),))
        return FileSource(config, self.folder, {}, name="people", is_counted=False)

    def add(self, *rows: Row) -> None:
        self.count += 1
        path = self.folder / f"people_{self.count}.parquet"
        pl.DataFrame(rows).write_parquet(path)
        long_ago = time.time() - 60
        os.utime(path, (long_ago, long_ago))

    def remove(self) -> None:
        for path in self.folder.glob("*.parquet"):
            path.unlink()

    def damage(self) -> None:
        path = self.folder / "people_9.parquet"
        pl.DataFrame([person(9)]).write_parquet(path)
        path.write_bytes(path.read_bytes()[:-100])


class S3World(World):
    """Gzipped text in a bucket of a local server."""

    def __init__(self, endpoint: str, bucket: str) -> None:
        self.bucket, self.count = bucket, 0
        self.environment = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "eu-central-1",
        }
        self.files = self._filesystem()
        self.files.create_dir(bucket)

    def source(self) -> Source:
        config = FileReading(files=(SourceFile(path=f"s3://{self.bucket}/in/*.csv.gz"),))
        return FileSource(config, Path("/"), self.environment, name="people", is_counted=False)

    def add(self, *rows: Row) -> None:
        self.count += 1
        self._put(f"in/{self.count}.csv.gz", gzip.compress(_csv(rows)))

    def remove(self) -> None:
        self.files.delete_dir_contents(self.bucket)

    def damage(self) -> None:
        self._put("in/9.csv.gz", gzip.compress(_csv([person(9)]))[:-20])

    def _put(self, name: str, content: bytes) -> None:
        with self.files.open_output_stream(f"{self.bucket}/{name}", compression=None) as stream:
            stream.write(content)

    def _filesystem(self) -> Any:
        from pyarrow.fs import S3FileSystem

        return S3FileSystem(
            access_key="somebody",
            secret_key=SECRET,
            region="eu-central-1",
            endpoint_override=self.environment["AWS_ENDPOINT_URL"].removeprefix("http://"),
            scheme="http",
            allow_bucket_creation=True,
        )


class SqlWorld(World):
    """A table with typed columns."""

    tells_late_rows_by_cursor = True

    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres
        self.table, self.query = "people", None
        with postgres.transaction() as connection:
            typed = ", ".join(
                f"{name} {'integer' if isinstance(value, int) else 'text'}"
                for name, value in PERSON.items()
            )
            connection.execute(
                f"CREATE TABLE people (user_id bigint, updated_at timestamptz, {typed})"
            )

    def source(self) -> Source:
        chosen = {"query": self.query} if self.query else {"table": self.table}
        config = SqlReading(type="sql", cursor_column="updated_at", lookback=LOOKBACK_S, **chosen)
        return SqlSource(self.postgres, config, name="people")

    def add(self, *rows: Row) -> None:
        names = ", ".join(COLUMNS)
        holders = ", ".join(["%s"] * len(COLUMNS))
        with self.postgres.transaction() as connection:
            connection.cursor().executemany(
                f"INSERT INTO people ({names}) VALUES ({holders})",
                [[row[name] for name in COLUMNS] for row in rows],
            )

    def remove(self) -> None:
        self.postgres = Postgres(f"postgresql://reader:{SECRET}@127.0.0.1:1/none")

    def damage(self) -> None:
        """The server ends the session at the last row."""
        last = "SELECT max(user_id) FROM people"
        ending = "pg_terminate_backend(pg_backend_pid())"
        self.query = f"SELECT *, CASE WHEN user_id = ({last}) THEN {ending} END AS x FROM people"


class ApiWorld(World):
    """An API that answers pages of two records and asks for a secret."""

    tells_late_rows_by_cursor = True

    def __init__(self, **settings: Any) -> None:
        self.rows: list[Row] = []
        self.faults: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.asked: list[str] = []
        self.times: list[float] = []
        self.waits: list[float] = []
        self.answer: Callable[[str], Any] = self._page
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/people"
        self.environment = {"PEOPLE_TOKEN": SECRET}
        self.config = HttpReading.model_validate(
            {
                **{"type": "http", "url": self.url, "columns": COLUMNS, "records": "data.items"},
                **{"paging": "cursor", "next_field": "data.next", "page_param": "after"},
                **{"cursor_column": "updated_at", "since_param": "since"},
                **{"lookback": LOOKBACK_S, "auth_env": "PEOPLE_TOKEN", "timeout_s": 0.5},
                **{"max_tries": 3, "max_wait_s": 0.2},
                **settings,
            }
        )

    def source(self) -> Source:
        def connect() -> ApiClient:
            return ApiClient(self.config, self.environment, self.waits.append, lambda: 0.5)

        return HttpSource(self.config, connect, name="people")

    def add(self, *rows: Row) -> None:
        self.rows += [_texts(row) for row in rows]

    def remove(self) -> None:
        self.close()

    def damage(self) -> None:
        """Every page but the first breaks off in the middle of its body."""
        self.faults = [lambda _: None] + [break_off] * 20

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _page(self, address: str) -> Any:
        asked = parse_qs(urlsplit(address).query)
        since = asked.get("since", [""])[0]
        rows = [row for row in self.rows if row["updated_at"] >= since]
        start = int(asked.get("after", ["0"])[0])
        following = start + 2 if start + 2 < len(rows) else None
        return {"data": {"items": rows[start : start + 2], "next": following}}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        world = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                world.asked.append(self.path)
                world.times.append(time.monotonic())
                fault = world.faults.pop(0) if world.faults else lambda _: None
                self.is_answered = False
                fault(self)
                if self.is_answered:
                    return
                if self.headers.get("Authorization") != f"Bearer {SECRET}":
                    send(self, 401, {"error": "who are you?"})
                else:
                    send(self, 200, world.answer(self.path))

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def send(handler: BaseHTTPRequestHandler, status: int, body: Any, **headers: str) -> None:
    """Answer with JSON."""
    handler.is_answered = True  # type: ignore[attr-defined]
    packed = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(packed)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(packed)


def break_off(handler: BaseHTTPRequestHandler) -> None:
    """Promise more than is sent."""
    handler.is_answered = True  # type: ignore[attr-defined]
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"data": {"items": [')
    handler.close_connection = True


def hang(handler: BaseHTTPRequestHandler) -> None:
    """Answer too late."""
    time.sleep(1.2)
    handler.is_answered = True  # type: ignore[attr-defined]
    handler.close_connection = True


def refuse(status: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer with an error."""
    return lambda handler: send(handler, status, {"error": "no"}, **headers)


class ReferenceWorld(World):
    """People in one file, what their kind of work means in another."""

    def __init__(self, folder: Path) -> None:
        self.people = CsvWorld(folder)
        self.catalogue = folder / "catalogue.csv"
        self.catalogue.write_text("workclass,sector\nState-gov,public\nPrivate,private\n")

    def source(self) -> Source:
        config = FileReading(files=(SourceFile(path="catalogue.csv"),))
        catalogue = FileSource(config, self.people.folder, {}, name="catalogue")
        return ReferenceSource(self.people.source(), catalogue, "workclass")

    def add(self, *rows: Row) -> None:
        self.people.add(*rows)

    def remove(self) -> None:
        self.catalogue.unlink()

    def damage(self) -> None:
        self.people.damage()


def _texts(row: Row) -> Row:
    return {name: v.isoformat() if isinstance(v, datetime) else v for name, v in row.items()}


def _csv(rows: Sequence[Row]) -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    writer.writerows([_texts(row) for row in rows])
    return file.getvalue().encode()
