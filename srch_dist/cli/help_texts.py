"""Help texts of the command line, read from the docstring under each dataclass field.

tyro would keep the line breaks of the source; this module removes these line breaks.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, get_type_hints

import docstring_parser
import tyro
from pydantic.fields import FieldInfo
from tyro.constructors import (
    MISSING,
    MISSING_NONPROP,
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

REGISTRY = ConstructorRegistry()
# Replaces "(default: None)". The help text says what happens without the option.
_OPTIONAL = tyro.conf.arg(help_behavior_hint="(optional)")


def option_texts(kind: type[Any]) -> dict[str, str]:
    """Return the help text of each field of a dataclass, by name of the field.

    The text is the description in the field's type if there is one, else the field's docstring.
    """
    texts = {}
    for base in reversed(kind.__mro__):
        if dataclasses.is_dataclass(base):
            for item in docstring_parser.parse_from_object(base).params:
                texts[item.arg_name] = " ".join((item.description or "").split())
    for name, hint in get_type_hints(kind, include_extras=True).items():
        for extra in getattr(hint, "__metadata__", ()):
            if isinstance(extra, FieldInfo) and extra.description:
                texts[name] = extra.description
    return texts


@REGISTRY.struct_rule
def _described(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Describe the fields of a dataclass to tyro, with their help texts."""
    kind = info.type
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return None
    hints, texts = get_type_hints(kind, include_extras=True), option_texts(kind)
    fields = []
    for item in dataclasses.fields(kind):
        hint, default = hints[item.name], _default(info, item)
        if default is None:
            hint = Annotated[hint, _OPTIONAL]
        fields.append(StructFieldSpec(item.name, hint, default, texts.get(item.name)))
    return StructConstructorSpec(instantiate=kind, fields=tuple(fields))


def _default(info: StructTypeInfo, item: dataclasses.Field[Any]) -> Any:
    if info.default is not MISSING and info.default is not MISSING_NONPROP:
        return getattr(info.default, item.name)
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return MISSING if item.default is dataclasses.MISSING else item.default
