"""Judges answers by a broker's OpenAPI document. Runs where `openapi-schema-validator` is installed.

Reads `{"documents": {name: path}, "repairs": [[document, pointer, value]], "answers": [{"document", "method", "path",
"status", "body"}]}` from standard input and prints one list of complaints per answer: `<place in the body> <rule>:
<what is wrong>`. A place has no indices. Repairs are put into a document before anything is judged by it. Beyond what a
validator checks, a key that the document does not know is a complaint too (rule `undocumented`).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from openapi_schema_validator import OAS30Validator, OAS31Validator, oas30_format_checker, oas31_format_checker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

Json = dict[str, Any]


class Document:
    """One OpenAPI document."""

    def __init__(self, text: str, repairs: list[tuple[str, Any]]) -> None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self.content: Json = json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, loader)
        for pointer, value in repairs:
            parent, _, name = pointer.rpartition("/")
            self.at(parent)[name] = value
        obey_discriminators(self.content)
        self.registry = Registry().with_resource("urn:doc", Resource(self.content, DRAFT202012))
        new = self.content["openapi"].startswith("3.1")
        self.validator = OAS31Validator if new else OAS30Validator
        self.formats = oas31_format_checker if new else oas30_format_checker

    def judge(self, answer: Json) -> list[str]:
        """Return what is wrong with an answer."""
        found = self.operation(answer["method"], answer["path"])
        if found is None:
            return ["operation: not in the document"]
        pointer, operation = found
        responses = operation["responses"]
        status = str(answer["status"])
        if status not in responses:
            return ["status: not in the document"]
        response = responses[status]
        if "$ref" in response:
            pointer, response = response["$ref"][1:], self.at(response["$ref"][1:])
        else:
            pointer = f"{pointer}/responses/{status}"
        schema = response.get("content", {}).get("application/json", {}).get("schema")
        if schema is None or answer["body"] is None:
            wrong = (schema is None) != (answer["body"] is None) and status.startswith("2")
            return ["body: is there or missing against the document"] if wrong else []
        root = {"$ref": f"urn:doc#{pointer}/content/application~1json/schema"}
        validator = self.validator(root, registry=self.registry, format_checker=self.formats)
        errors = [leaf for error in validator.iter_errors(answer["body"]) for leaf in leaves(error)]
        said = [f"{place(error.absolute_path)} {error.validator}: {error.message}" for error in errors]
        said += [f"{where} undocumented" for where in self.undocumented(answer["body"], [schema], "")]
        return sorted(set(said))

    def operation(self, method: str, path: str) -> tuple[str, Json] | None:
        """Return pointer and content of the operation that a path belongs to; fixed paths win over patterns."""
        for template in sorted(self.content["paths"], key=lambda t: t.count("{")):
            pattern = re.sub(r"\\{.*?\\}", "[^/]+", re.escape(template))
            if re.fullmatch(pattern, path) and method.lower() in self.content["paths"][template]:
                escaped = template.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D")
                return f"/paths/{escaped}/{method.lower()}", self.content["paths"][template][method.lower()]
        return None

    def at(self, pointer: str) -> Any:
        found: Any = self.content
        for step in pointer.strip("/").split("/"):
            found = found[step.replace("~1", "/").replace("~0", "~")]
        return found

    def undocumented(self, value: Any, schemas: list[Json], where: str) -> Iterator[str]:
        """Yield the places of keys that none of the schemas of their object knows."""
        parts = [part for schema in schemas for part in self.parts(schema)]
        if isinstance(value, list):
            items = [part["items"] for part in parts if "items" in part]
            for item in value:
                yield from self.undocumented(item, items, f"{where}[]") if items else ()
        if not isinstance(value, dict):
            return
        known: dict[str, list[Json]] = {}
        for part in parts:
            for name, schema in part.get("properties", {}).items():
                known.setdefault(name, []).append(schema)
        free = [part["additionalProperties"] for part in parts if part.get("additionalProperties")]
        for name, item in value.items():
            inner = f"{where}.{name}".lstrip(".")
            if name in known:
                yield from self.undocumented(item, known[name], inner)
            elif free:
                yield from self.undocumented(item, [s for s in free if isinstance(s, dict)], f"{where}.*".lstrip("."))
            elif known:
                yield inner

    def parts(self, schema: Json) -> Iterator[Json]:
        """Yield a schema and all it is made of, references followed."""
        if "$ref" in schema:
            yield from self.parts(self.at(schema["$ref"][1:]))
            return
        yield schema
        for word in ("allOf", "anyOf", "oneOf"):
            for part in schema.get(word, ()):
                yield from self.parts(part)


def obey_discriminators(schema: Any) -> None:
    """Make choices exclusive where a discriminator says which one it is; validators do not look at discriminators."""
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        obey_discriminators(inner)
    told = schema.get("discriminator") if isinstance(schema, dict) else None
    if isinstance(told, dict) and "oneOf" in schema and "mapping" in told:
        name = told["propertyName"]
        schema["oneOf"] = [
            {"allOf": [{"$ref": target}, {"properties": {name: {"enum": [word]}}, "required": [name]}]}
            for word, target in told["mapping"].items()
        ]


def leaves(error: Any) -> Iterator[Any]:
    """Yield what an error comes down to: for a choice of schemas, the errors of the one that fits best."""
    if not error.context:
        yield error
        return
    branches: dict[Any, list[Any]] = {}
    for inner in error.context:
        branches.setdefault(inner.schema_path[0], []).append(inner)
    for inner in min(branches.values(), key=len):
        yield from leaves(inner)


def place(path: Iterable[Any]) -> str:
    """Write where in the body something is, without indices."""
    return "".join("[]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".") or "-"


def read(source: str) -> str:
    """Return the text at a path, or in an installed package: `package:inner/path`."""
    package, _, inner = source.partition(":")
    return (files(package).joinpath(inner) if inner else Path(source)).read_text()


def main() -> None:
    asked = json.load(sys.stdin)
    documents = {
        name: Document(read(source), [(pointer, value) for which, pointer, value in asked["repairs"] if which == name])
        for name, source in asked["documents"].items()
    }
    json.dump([documents[answer["document"]].judge(answer) for answer in asked["answers"]], sys.stdout)


main()
