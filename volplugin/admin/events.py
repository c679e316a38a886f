"""What the moves of records are to people: volumes, snapshots and pools that come and go, and who mounts them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pluginkit.events.ring import Happening
from volplugin.options import Loop
from volplugin.records import OWN_CALLER, Attachment, Volume
from volplugin.values import format_size
from volplugin.volumes import ATTACHMENT, POOL, SNAPSHOT, VOLUME

_MADE = {SNAPSHOT.name: "snapshot", POOL.name: "pool"}


def happenings(kind: str, record_id: str, parent: str, before: Any, after: Any) -> Iterator[Happening]:
    """Yield what has happened when a record of that kind was moved from `before` to `after`; None: there was none."""
    if kind == VOLUME.name:
        yield from _volume(record_id, before, after)
    elif kind == ATTACHMENT.name:
        yield from _attachment(record_id, before or Attachment(), after or Attachment())
    elif kind in _MADE:
        yield from _made(f"{_MADE[kind]}-", record_id, parent, before, after)


def _volume(name: str, before: Volume | None, after: Volume | None) -> Iterator[Happening]:
    yield from _made("volume-", name, "", before, after)
    if not _is_made(before) or not _is_made(after):
        return
    assert before is not None
    assert after is not None
    if before.restoring is not None and after.restoring is None:
        yield Happening("volume-restored", name, "", before.restoring.snapshot)
    was, now = (each.options.size if isinstance(each.options, Loop) else 0 for each in (before, after))
    if was != now:
        yield Happening("volume-resized", name, "", f"to {format_size(now)}")


def _attachment(name: str, before: Attachment, after: Attachment) -> Iterator[Happening]:
    was, now = before.callers, after.callers
    for caller in sorted((was.keys() | now.keys()) - {OWN_CALLER}):
        if now.get(caller, 0) > was.get(caller, 0):
            yield Happening("volume-mounted", name, "", f"for {caller[:12]}")
        elif now.get(caller, 0) < was.get(caller, 0):
            yield Happening("volume-unmounted", name, "", f"for {caller[:12]}")


def _made(what: str, name: str, of: str, before: Any, after: Any) -> Iterator[Happening]:
    """Yield that it is there, or no more. Until it has a date nobody was told of it."""
    if _is_made(after) and not _is_made(before):
        yield Happening(f"{what}created", name, of)
    elif _is_made(before) and after is None:
        trash = getattr(before, "trash", "")
        yield Happening(f"{what}removed", name, of, f"in the trash as {trash}" if trash else "")


def _is_made(record: Any) -> bool:
    return record is not None and record.created_at is not None
