"""``mirror``: what lies in the mirror of artifacts, and what nothing needs any more."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from configs.command_line import AsJson, Debug
from configs.output import Display, Table, show
from configs.settings import load_settings
from models import connect
from models.errors import ArtifactError

UNDER_WAY = timedelta(hours=1)
"""A younger artifact may be that of a deployment which is not recorded yet."""

commands = typer.Typer()


@commands.command("mirror", epilog="Examples: python -m models mirror · … mirror --remove-old")
def show_mirror(
    remove_old: Annotated[
        bool,
        typer.Option("--remove-old", help="Remove what no deployment has ever named."),
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the artifacts in the mirror with the versions whose they are."""
    settings, now = load_settings(), datetime.now(UTC)
    mirror = connect.artifact_mirror(settings)
    if mirror is None:
        raise ArtifactError(
            "There is no mirror of artifacts. Set deployment.artifact_mirror to a folder or to "
            "s3://bucket/prefix; deployments fill it from then on."
        )
    with closing(connect.deployment_store(settings)) as store:
        labels = {arm.digest: arm.label for each in store.history() for arm in each.arms}
    data: list[dict[str, Any]] = []
    for each in mirror.list():
        is_old = each.digest not in labels and now - each.changed_at > UNDER_WAY
        if is_old and remove_old:
            mirror.remove(each.digest)
        data.append(
            {
                "digest": each.digest,
                "version": labels.get(each.digest),
                "bytes": each.size,
                "whole": each.is_whole,
                "changed_at": each.changed_at,
                "removed": is_old and remove_old,
            }
        )
    rows = [tuple(each.values()) for each in data]
    names = ("digest", "version", "bytes", "whole", "changed at", "removed")
    show(Display(data, [Table(f"Mirror: {mirror.address}", names, rows)]), as_json=as_json)
