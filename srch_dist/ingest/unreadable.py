"""Decide whether an ingest fails on an unreadable array or leaves the array out."""

from __future__ import annotations

from collections.abc import Sequence

from srch_dist.errors import InputError
from srch_dist.ingest.naming import side_name
from srch_dist.ingest.sources.base import Source
from srch_dist.ingest.sources.contents import may_be_modality


def refuse_unreadable(
    source: Source, modalities: Sequence[str] | None, side: Sequence[str] | None
) -> None:
    """Raise InputError if an option names an unreadable array, or if a default would choose one.

    Raises
    ------
    InputError : the message has the reason, and options that leave the array out.
    """
    for item in [*(modalities or ()), *(side or ())]:
        array = item.partition("=")[2] or item
        if array in source.unreadable:
            raise InputError(f"{array} {source.unreadable[array]}")
    if modalities is not None:
        return
    for name, reason in source.unreadable.items():
        # Without --side, an unreadable side array with a meaning, such as labels, is refused.
        meant = side is None and side_name(name) is not None
        if meant or name not in source.side_only:
            found = [other for other, spec in source.specs().items() if may_be_modality(*spec)]
            hint = f" To leave {name} out: --modalities {','.join(found)}" if len(found) > 1 else ""
            raise InputError(f"{name} {reason}{hint}")
