"""Filter rows by an expression over side columns, such as ``price < 10 and kind == "shoe"``.

Python's parser reads the expression, and pyarrow evaluates it. Nothing of Python is executed.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import numpy as np

from srch_dist.config.nearest import did_you_mean
from srch_dist.errors import ConfigError, require
from srch_dist.kernels.types import Mask
from srch_dist.storage.arrow_columns import arrow_column
from srch_dist.storage.joined_stores import Columns

PURPOSE = "a filter"
_COMPARISONS: Mapping[type[ast.cmpop], str] = {
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
}
_ARITHMETIC: Mapping[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
}
# Functions of texts, by their name in an expression.
_FUNCTIONS = {
    "contains": "match_substring",
    "startswith": "starts_with",
    "endswith": "ends_with",
    "matches": "match_substring_regex",
    "lower": "utf8_lower",
    "length": "utf8_length",
}
_EXAMPLE = 'price < 10 and kind in ("shoe", "boot") and contains(titles, "red")'


def filter_rows(store: Columns, text: str) -> Mask:
    """Evaluate an expression over the side columns of a store.

    Returns
    -------
    (n,) True where the expression is true.

    Raises
    ------
    ConfigError : the expression cannot be parsed, or does not fit the columns.
    """
    pa = require("pyarrow", "formats", PURPOSE)
    compute = require("pyarrow.compute", "formats", PURPOSE)
    columns: dict[str, None] = {}
    expression = _Translator(compute, store, columns).translate(text)
    mask = np.zeros(store.rows, bool)
    for start in range(0, store.rows, store.rows_per_chunk):
        stop = min(start + store.rows_per_chunk, store.rows)
        table = pa.table(
            {
                "\0row": pa.array(np.arange(start, stop)),
                **{name: arrow_column(pa, store.read(name, start, stop)) for name in columns},
            }
        )
        try:
            found = table.filter(expression)["\0row"].to_numpy()
        except (pa.ArrowException, ValueError, TypeError) as error:
            cause = str(error).strip().splitlines()[0]
            raise ConfigError(f"--filter {text!r} does not fit the columns: {cause}") from None
        mask[found] = True
    return mask


class _Translator:
    """Translate an expression of Python's grammar to one of pyarrow.

    ``columns`` receives the names of the side columns that the expression reads.
    """

    def __init__(self, compute: Any, store: Columns, columns: dict[str, None]) -> None:
        self._compute, self._store, self._columns = compute, store, columns

    def translate(self, text: str) -> Any:
        """Return the pyarrow expression of a filter; raise ConfigError if the text is none."""
        try:
            tree = ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ConfigError(f"cannot parse --filter {text!r}; example: {_EXAMPLE}") from None
        return self._node(tree.body)

    def _node(self, node: ast.expr) -> Any:
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                return self._joined("and_kleene", values)
            case ast.BoolOp(values=values):
                return self._joined("or_kleene", values)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self._call("invert", self._node(operand))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._call("negate", self._node(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return self._call(_ARITHMETIC[type(op)], self._node(left), self._node(right))
            case ast.Compare():
                return self._comparison(node)
            case ast.Subscript(value=ast.Name() as name, slice=ast.Constant(value=int(place))):
                return self._compute.list_element(self._node(name), place)
            case ast.Call(func=ast.Name(id=function), args=arguments, keywords=[]):
                return self._function(function, arguments)
            case ast.Name(id=name):
                return self._column(name)
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return self._compute.scalar(value)
        raise ConfigError(
            f"--filter cannot hold {ast.unparse(node)!r}; it has comparisons, and, or, not, in, "
            f"+ - * / and {', '.join(_FUNCTIONS)}. Example: {_EXAMPLE}"
        )

    def _joined(self, function: str, values: list[ast.expr]) -> Any:
        first, *others = [self._node(value) for value in values]
        for other in others:
            first = self._call(function, first, other)
        return first

    def _comparison(self, node: ast.Compare) -> Any:
        parts, left = [], node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                inside = self._node(left).isin(_constants(right))
                parts.append(self._call("invert", inside) if isinstance(op, ast.NotIn) else inside)
            elif type(op) in _COMPARISONS:
                function = _COMPARISONS[type(op)]
                parts.append(self._call(function, self._node(left), self._node(right)))
            else:
                raise ConfigError(f"--filter cannot compare with {ast.unparse(node)!r}; use ==")
            left = right
        result = parts[0]
        for part in parts[1:]:
            result = self._call("and_kleene", result, part)
        return result

    def _function(self, name: str, arguments: list[ast.expr]) -> Any:
        if name not in _FUNCTIONS:
            known = f"{', '.join(_FUNCTIONS)}{did_you_mean(name, _FUNCTIONS)}"
            raise ConfigError(f"--filter has no function {name!r}; known: {known}")
        texts = [part.value for part in arguments[1:] if isinstance(part, ast.Constant)]
        needs = 0 if name in ("lower", "length") else 1
        if len(arguments) != needs + 1 or len(texts) != needs:
            form = f'{name}(column, "text")' if needs else f"{name}(column)"
            raise ConfigError(f"--filter: write {form}")
        return self._call(_FUNCTIONS[name], self._node(arguments[0]), *texts)

    def _column(self, name: str) -> Any:
        if name not in self._store.side:
            raise ConfigError(
                f"--filter: {self._store.path} has no side column {name!r}; it has "
                f"{', '.join(self._store.side) or 'none'}{did_you_mean(name, self._store.side)}"
            )
        self._columns[name] = None
        return self._compute.field(name)

    def _call(self, function: str, *arguments: Any) -> Any:
        return getattr(self._compute, function)(*arguments)


def _constants(node: ast.expr) -> list[Any]:
    try:
        return list(ast.literal_eval(node))
    except (ValueError, TypeError):
        raise ConfigError('--filter: write `column in ("a", "b")`') from None
