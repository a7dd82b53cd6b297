"""Batch inference from and to S3: a local server that speaks it, with and without access."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pyarrow.parquet as pq
import pytest

from infrastructure.servers import ports
from pipelines.batch.output import verified
from tests.worlds.batch import BatchWorld

Capsys = pytest.CaptureFixture[str]


def client(endpoint: str, service: str = "s3") -> Any:
    import boto3

    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="root",
        aws_secret_access_key="root",
    )


@pytest.fixture
def bucket(s3: str, batch: BatchWorld) -> str:
    """A bucket with an input of 50 ids in two files, and credentials in the environment."""
    name = f"batch-{uuid.uuid4().hex[:8]}"
    client(s3).create_bucket(Bucket=name)
    for part, keys in {"a": range(1, 31), "b": range(31, 51)}.items():
        path = batch.folder / f"{part}.parquet"
        pl.DataFrame({"user_id": list(keys)}).write_parquet(path)
        client(s3).upload_file(str(path), name, f"in/{part}.parquet")
    batch.extra |= {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    return name


def keys_in(endpoint: str, bucket: str, prefix: str) -> list[str]:
    listed = client(endpoint).list_objects_v2(Bucket=bucket, Prefix=prefix)
    keys = [each["Key"] for each in listed.get("Contents", [])]
    return [key for key in keys if not key.endswith("/")]  # marks of folders


@contextmanager
def access_is_checked(endpoint: str) -> Iterator[None]:
    """From now on the server looks at who asks, and what they may."""

    def unchecked_requests(n: bytes) -> None:
        httpx.post(f"{endpoint}/moto-api/reset-auth", content=n).raise_for_status()

    unchecked_requests(b"0")
    try:
        yield
    finally:
        unchecked_requests(b"inf")


def test_input_and_output_may_lie_in_s3(
    batch: BatchWorld, capsys: Capsys, s3: str, bucket: str
) -> None:
    wanted = ["--input", f"s3://{bucket}/in/*.parquet", "--output", f"s3://{bucket}/out"]
    for limit in (50, 40):
        run = batch.ended(*wanted, "--chunk-rows", 12, "--limit", limit, capsys=capsys)
        assert run.code == 0, run.err
    written = keys_in(s3, bucket, "out/")
    [day] = {key.split("/")[1] for key in written}
    content = client(s3).get_object(Bucket=bucket, Key=f"out/{day}/_manifest.json")["Body"].read()
    files = verified(f"s3://{bucket}/out/{day}", batch.extra)
    assert json.loads(content)["rows"] == 40
    # What the first run wrote is gone, and so is what was written aside.
    parts = [f"s3://{bucket}/{key}" for key in written if key.endswith(".parquet")]
    assert sorted(files) == sorted(parts)
    users = [
        user
        for key in sorted(key for key in written if key.endswith(".parquet"))
        for user in pq.read_table(_download(s3, bucket, key, batch.folder))["user_id"].to_pylist()
    ]
    assert sorted(users) == list(range(1, 41))


def test_an_interrupted_run_to_s3_has_no_manifest_and_is_resumed(
    batch: BatchWorld, capsys: Capsys, s3: str, bucket: str
) -> None:
    client(s3).upload_file(
        str(batch.features("many.parquet", 20_000)), bucket, "many/features.parquet"
    )
    wanted = [
        *("--input", f"s3://{bucket}/many/", "--output", f"s3://{bucket}/out"),
        *("--chunk-rows", 500, "--explain", 1),
    ]
    process = batch.start(*wanted)
    while len([key for key in keys_in(s3, bucket, "out/") if "/receipts/" in key]) < 2:
        assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate()
    assert [key for key in keys_in(s3, bucket, "out/") if "_manifest" in key] == []
    run = batch.ended(*wanted, "--resume", capsys=capsys)
    assert run.code == 0, run.err
    assert "chunks were finished before" in run.out
    [manifest] = [key for key in keys_in(s3, bucket, "out/") if "_manifest" in key]
    assert len(verified(f"s3://{bucket}/{Path(manifest).parent}", batch.extra)) == 40
    assert len(keys_in(s3, bucket, "out/")) == 41


def test_what_s3_refuses_is_told_in_one_line(
    batch: BatchWorld, capsys: Capsys, s3: str, bucket: str
) -> None:
    def refused(*arguments: object) -> str:
        run = batch.ended(*arguments, capsys=capsys)
        assert (run.code, run.err.count("\n")) == (1, 1), run.err
        return run.err

    there = ["--input", f"s3://{bucket}/in/a.parquet"]
    nowhere = f"s3://nowhere-{uuid.uuid4().hex}"
    assert "No file is at s3://" in refused("--input", f"s3://{bucket}/no/*.parquet")
    assert "there is no such bucket" in refused("--input", f"{nowhere}/*.parquet")
    assert "there is no such bucket" in refused(*there, "--output", f"{nowhere}/out")
    iam = client(s3, "iam")
    iam.create_user(UserName="powerless")
    key = iam.create_access_key(UserName="powerless")["AccessKey"]
    with access_is_checked(s3):
        assert "access is denied" in refused(*there)
        batch.extra |= {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
        assert "access is denied" in refused(*there)
        local = ["--limit", 5, "--output", f"s3://{bucket}/out"]
        assert "access is denied" in refused(*local)
    with closing(ports.take_any(listening=False)) as nobody:
        batch.extra["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{nobody.number}"
        assert "nobody answers" in refused(*there)


def _download(endpoint: str, bucket: str, key: str, folder: Path) -> Path:
    path = folder / hashlib.sha256(key.encode()).hexdigest()
    client(endpoint).download_file(bucket, key, str(path))
    return path
