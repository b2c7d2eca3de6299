"""Texts of options: what stands under each field of a dataclass, in lines as long as there is room.

tyro would keep the line breaks of the source.
"""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

import docstring_parser
from tyro.constructors import (
    MISSING,
    MISSING_NONPROP,
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

REGISTRY = ConstructorRegistry()


def option_texts(kind: type[Any]) -> dict[str, str]:
    """What each field of a dataclass, or of those that it is made of, says of itself."""
    texts = {}
    for one in reversed(kind.__mro__):
        if dataclasses.is_dataclass(one):
            for item in docstring_parser.parse_from_object(one).params:
                texts[item.arg_name] = " ".join((item.description or "").split())
    return texts


@REGISTRY.struct_rule
def _described(info: StructTypeInfo) -> StructConstructorSpec | None:
    """A dataclass, with its texts."""
    kind = info.type
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return None
    hints, texts = get_type_hints(kind, include_extras=True), option_texts(kind)
    return StructConstructorSpec(
        instantiate=kind,
        fields=tuple(
            StructFieldSpec(item.name, hints[item.name], _default(info, item), texts.get(item.name))
            for item in dataclasses.fields(kind)
        ),
    )


def _default(info: StructTypeInfo, item: dataclasses.Field[Any]) -> Any:
    if info.default is not MISSING and info.default is not MISSING_NONPROP:
        return getattr(info.default, item.name)
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return MISSING if item.default is dataclasses.MISSING else item.default
