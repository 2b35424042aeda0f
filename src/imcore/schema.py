"""From a decoded document to typed structs, with errors for people: the key, what was expected, what came, the line of
the schema that says so, and the nearest right key. It knows msgspec's types and nothing of what they configure.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from .errors import ConfigError

__all__ = ["convert", "keys", "syntax_error"]

Schema = TypeVar("Schema", bound=msgspec.Struct)

_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `\$?(?P<path>[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_FIELD = re.compile(r"(?P<kind>unknown|missing required) field `(?P<name>[^`]*)`")
_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


def convert(document: dict[str, Any], schema: type[Schema], source: str) -> Schema:
    """The document as a struct of that type. Raises `ConfigError`; `source` says where the document is from."""
    try:
        return msgspec.convert(document, schema)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_explain(error, document, schema)}") from None


def syntax_error(error: tomllib.TOMLDecodeError, text: str, source: str) -> ConfigError:
    """What the TOML parser found, in the form file:line:column."""
    found = _PLACE.fullmatch(str(error))
    if found is None:
        return ConfigError(f"{source}: not TOML: {error}")
    line, column = found[2] or str(text.count("\n") + 1), found[3]
    return ConfigError(f"{source}:{line}{f':{column}' if column else ''}: not TOML: {found[1]}")


def keys(schema: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    """Each key with its line of the schema: `("limits.window", "window = 128  # …")`."""
    for path, field in _leaves(_struct(inspect.type_info(schema)), ""):
        yield path, _line(field)


def _explain(error: msgspec.ValidationError, document: dict[str, Any], schema: type[msgspec.Struct]) -> str:
    found = _WHERE.fullmatch(str(error))
    what, steps = (found["what"], _steps(found["path"] or "")) if found else (str(error), [])
    if isinstance(error.__cause__, ConfigError):  # what a struct itself found: it begins with the key
        return f"{_path([*steps, what])}"
    about_field = _FIELD.search(what)
    if about_field is None:
        path = _path(steps)
        field = _find(inspect.type_info(schema), steps)
        secret = _is_secret(_find(inspect.type_info(schema), steps[:2]))
        got = "something else, which is not shown" if secret else _shown(_value(document, steps))
        expected = _wording(field.type) if isinstance(field, inspect.Field) else _wording(field)
        line = f" (schema: {_line(field)})" if isinstance(field, inspect.Field) else ""
        return f"{path or 'the document'}: expected {expected}, got {got}{line}"
    name = about_field["name"]
    here = _struct(_find(inspect.type_info(schema), steps))
    path = _path([*steps, name])
    if about_field["kind"] == "missing required":
        field = next(field for field in here.fields if field.name == name)
        return f"{path}: missing, expected {_wording(field.type)} (schema: {_line(field)})"
    return f"{path}: no such key; {_nearest(name, here, steps, schema)}"


def _nearest(name: str, here: inspect.StructType, steps: list[str | int], schema: type[msgspec.Struct]) -> str:
    names = [field.name for field in here.fields]
    near = difflib.get_close_matches(name.lower(), names, 1)
    if near:
        return f"did you mean {_path([*steps, near[0]])}?"
    elsewhere = {path.rpartition(".")[2]: path for path, _ in keys(schema)}
    near = difflib.get_close_matches(name.lower(), list(elsewhere), 1)
    if near:
        return f"did you mean {elsewhere[near[0]]}?"
    return f"expected one of {', '.join(names)}"


def _steps(path: str) -> list[str | int]:
    return [name or int(index) for name, index in _STEP.findall(path)]


def _path(steps: list[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def _value(document: Any, steps: list[str | int]) -> Any:
    for step in steps:
        document = document[step]
    return document


def _shown(value: Any) -> str:
    """What came, as TOML would have it, cut: it may be a whole table."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, bool):
        return str(value).lower()
    text = msgspec.json.encode(value, enc_hook=str).decode() if isinstance(value, str | list) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _find(kind: inspect.Type, steps: list[str | int]) -> inspect.Type | inspect.Field:
    """The field (or the element of a list) at the end of the path."""
    found: inspect.Type | inspect.Field = kind
    for step in steps:
        bare = _bare(found.type if isinstance(found, inspect.Field) else found)
        if isinstance(step, int):
            found = bare.item_types[step] if isinstance(bare, inspect.TupleType) else bare.item_type  # type: ignore[attr-defined]  # only lists and tuples have indexes
        else:
            found = next(field for field in _struct(bare).fields if field.name == step)
    return found


def _is_secret(found: inspect.Type | inspect.Field) -> bool:
    kind = found.type if isinstance(found, inspect.Field) else found
    return isinstance(kind, inspect.Metadata) and bool((kind.extra or {}).get("secret"))


def _bare(kind: inspect.Type) -> inspect.Type:
    """Without its description, and without the None of an optional one."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        return _bare(next(each for each in kind.types if not isinstance(each, inspect.NoneType)))
    return kind


def _struct(kind: inspect.Type | inspect.Field) -> inspect.StructType:
    bare = _bare(kind.type if isinstance(kind, inspect.Field) else kind)
    if isinstance(bare, inspect.ListType):
        return _struct(bare.item_type)
    assert isinstance(bare, inspect.StructType)
    return bare


def _leaves(struct: inspect.StructType, above: str) -> Iterator[tuple[str, inspect.Field]]:
    for field in struct.fields:
        bare = _bare(field.type)
        inner = _bare(bare.item_type) if isinstance(bare, inspect.ListType) else bare
        if isinstance(inner, inspect.StructType):
            yield from _leaves(inner, f"{above}{field.name}.")
        else:
            yield f"{above}{field.name}", field


def _line(field: inspect.Field) -> str:
    """`window = 128  # inbox messages sent to a link and not acknowledged`"""
    description = ""
    kind = field.type
    while isinstance(kind, inspect.Metadata):
        description = (kind.extra_json_schema or {}).get("description", description)
        kind = kind.type
    default = field.default
    if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    shown = "…" if field.required or isinstance(default, msgspec.Struct) or default is None else _shown_default(default)
    return f"{field.name} = {shown}  # {description}"


def _shown_default(value: Any) -> str:
    return msgspec.json.encode(value).decode().replace('","', '", "').replace(",", ", ").replace(",  ", ", ")


def _wording(kind: inspect.Type) -> str:
    """A type in words."""
    kind = _bare(kind)
    if isinstance(kind, inspect.IntType):
        return f"a whole number{_bounds(kind)}"
    if isinstance(kind, inspect.FloatType):
        return f"a number{_bounds(kind)}"
    if isinstance(kind, inspect.StrType):
        most = f" of at most {kind.max_length} characters" if kind.max_length else ""
        return f"a text{most}{', not empty' if kind.min_length else ''}"
    if isinstance(kind, inspect.LiteralType):
        return " or ".join(f'"{value}"' for value in kind.values)
    if isinstance(kind, inspect.ListType):
        item = _bare(kind.item_type)
        some = "one or more" if kind.min_length else "any number"
        return f"a list: {some} of {'tables' if isinstance(item, inspect.StructType) else _wording(item)}"
    if isinstance(kind, inspect.TupleType):
        return f"a list of {len(kind.item_types)}: {', '.join(_wording(each) for each in kind.item_types)}"
    return "a table"


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" of {kind.ge} to {kind.le}"
    least = f" of at least {kind.ge}" if kind.ge is not None else f" above {kind.gt:g}" if kind.gt is not None else ""
    if kind.le is None:
        return least
    return f"{least}, at most {kind.le}" if least else f" of at most {kind.le}"
