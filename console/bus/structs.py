"""JSON Schemas of structs whose fields may hold any JSON.

msgspec writes no schema for a struct with a default of ``msgspec.Raw``. So its own generator is given the types with
such defaults left out; the lock file holds the version that this fits.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import _json_schema as generator

Schema = dict[str, Any]


def components(models: Sequence[Any], ref_template: str) -> tuple[list[Schema], dict[str, Schema]]:
    """As ``msgspec.json.schema_components``, without the defaults that are raw JSON."""
    infos = msgspec.inspect.multi_type_info(models)
    found = generator._collect_component_types(infos)
    for info in found.values():
        for field in getattr(info, "fields", ()):
            if isinstance(field.default, msgspec.Raw):
                field.default = msgspec.NODEFAULT
    names = generator._build_name_map(found)
    making = generator._SchemaGenerator(names, None, ref_template)
    parts = {names[kind]: making.to_schema(info, False) for kind, info in found.items()}
    return [making.to_schema(info) for info in infos], parts
