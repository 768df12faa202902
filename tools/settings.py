"""Writes .env.example and the tables of settings in docs/settings.md: `make settings`.

The services' settings come from their settings classes, those of the compose stack from its files in deploy/.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from inference.settings import Settings as InferenceSettings
from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from web.settings import Settings as WebSettings

ROOT = Path(__file__).parents[1]
COMPOSE = [ROOT / "deploy/docker-compose.yml", ROOT / "deploy/docker-compose.traces.yml"]
BEGIN, END = "<!-- settings: make settings -->\n", "<!-- end of settings -->\n"
HEAD = """# The settings of facet with their defaults, from `make settings`. Copy this to .env and change what you need:
# `make up` and `make serve` read it. Addresses and ports `make serve` sets itself (PORT=, BASE_PORT=), and its WORKERS=
# goes before FACET_WORKERS.
"""


def settings() -> dict[str, tuple[FieldInfo, list[str]]]:
    """Give each setting by its variable's name, with the services that read it."""
    found: dict[str, tuple[FieldInfo, list[str]]] = {}
    for service, fields in (("inference", InferenceSettings.model_fields), ("web", WebSettings.model_fields)):
        for name, field in fields.items():
            known, readers = found.setdefault(variable(name, field), (field, []))
            if known.default != field.default:
                sys.exit(f"{variable(name, field)} has two defaults")
            readers.append(service)
    return found


def variable(name: str, field: FieldInfo) -> str:
    """Give the name of a setting's variable: ours, or a usual one; of two usual ones the more general."""
    alias = field.validation_alias
    usual = alias.choices[-1] if isinstance(alias, AliasChoices) else alias
    return str(usual or f"FACET_{name.upper()}")


def compose_settings() -> dict[str, tuple[str, str]]:
    """Give default and meaning of each ${NAME:-default} of the compose files that has a comment at its line's end."""
    text = "".join(path.read_text() for path in COMPOSE)
    found = re.findall(r"\$\{(\w+):-([^}]*)\}.*?  # (.+)$", text, re.MULTILINE)
    return {name: (default, meaning) for name, default, meaning in found}


def value(field: FieldInfo) -> str:
    """Give the default as it is written in an environment file."""
    default = field.default
    return "" if default is None else f"{default:g}" if isinstance(default, float) else str(default)


def env_example() -> str:
    """Make the text of .env.example: each setting explained once, commented out at its default."""
    entries = [
        f"\n# {field.description} ({', '.join(readers)})\n#{name}={value(field)}\n"
        for name, (field, readers) in settings().items()
    ]
    entries += [
        f"\n# {meaning} (compose)\n#{name}={default}\n" for name, (default, meaning) in compose_settings().items()
    ]
    return HEAD + "".join(entries)


def table() -> str:
    """Make the tables of docs/settings.md."""
    rows = [
        f"| `{name}` | {value(field) or 'open'} | {field.description} |\n" for name, (field, _) in settings().items()
    ]
    head = "| variable | default | meaning |\n|---|---|---|\n"
    compose = [f"| `{name}` | {default} | {meaning} |\n" for name, (default, meaning) in compose_settings().items()]
    return head + "".join(rows) + "\nOf the compose stack alone:\n\n" + head + "".join(compose)


def main() -> int:
    """Write both files, or with --check only say whether they are up to date."""
    page = ROOT / "docs/settings.md"
    before, rest = page.read_text().split(BEGIN)
    after = rest.split(END)[1]
    wanted = {ROOT / ".env.example": env_example(), page: before + BEGIN + table() + END + after}
    behind = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in behind:
            print(f"{path.name} is behind the settings: run make settings", file=sys.stderr)
        return bool(behind)
    for path in behind:
        path.write_text(wanted[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
