"""Writes .env.example and the tables of docs/settings.md: `make settings`.

The services' settings come from their settings classes, those of the compose stack from its files in deploy/.
"""

import re
import sys
import textwrap
from pathlib import Path

from inference.settings import Settings as InferenceSettings
from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from web.settings import Settings as WebSettings

from telemetry.settings import ServiceSettings

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/settings.md"
EXAMPLE = ROOT / ".env.example"
COMPOSE = [ROOT / "deploy/docker-compose.yml", ROOT / "deploy/docker-compose.traces.yml"]
BEGIN, END = "<!-- settings: make settings -->\n", "<!-- end of settings -->\n"
HEAD = """# The settings of facet with their defaults, written by `make settings`. Copy this file to .env and change it;
# `make up` and `make serve` read it. Both choose the services' addresses and ports themselves; see FACET_PUBLISH for
# `make up`, PORT= and BASE_PORT= for `make serve`. WORKERS= of `make serve` takes precedence over FACET_WORKERS.
"""

Entries = dict[str, tuple[str, str]]  # by the variable's name: default and meaning


def services() -> dict[str, Entries]:
    """Return the settings by the service that reads them."""
    shared = ServiceSettings.model_fields
    own = {"inference": InferenceSettings.model_fields, "web": WebSettings.model_fields}
    return {
        "Both services": _entries(shared),
        **{f"`{name}`": _entries({k: f for k, f in fields.items() if k not in shared}) for name, fields in own.items()},
    }


def compose() -> Entries:
    """Return each ${NAME:-default} of the compose files that has a comment at the end of its line."""
    text = "".join(path.read_text() for path in COMPOSE)
    found = re.findall(r"\$\{(\w+):-([^}]*)\}.*?  # (.+)$", text, re.MULTILINE)
    of_services = {name for entries in services().values() for name in entries}
    return {name: (default, meaning) for name, default, meaning in found if name not in of_services}


def env_example() -> str:
    """Build the text of .env.example: each setting with its meaning, commented out at its default."""
    sections = services() | {"The compose stack": compose()}
    return HEAD + "".join(
        f"\n# --- {title.replace('`', '')} ---\n"
        + "".join(f"\n{_comment(meaning)}\n#{name}={default}\n" for name, (default, meaning) in entries.items())
        for title, entries in sections.items()
    )


def tables() -> str:
    sections = services() | {"The compose stack": compose()}
    return "\n".join(f"## {title}\n\n{_table(entries)}" for title, entries in sections.items())


def _entries(fields: dict[str, FieldInfo]) -> Entries:
    return {
        _variable(name, field): (_value(field), " ".join((field.description or "").split()))
        for name, field in fields.items()
    }


def _variable(name: str, field: FieldInfo) -> str:
    """Return the name of a setting's variable; of two OpenTelemetry variables, the more general one."""
    alias = field.validation_alias
    standard = alias.choices[-1] if isinstance(alias, AliasChoices) else alias
    return str(standard or f"FACET_{name.upper()}")


def _value(field: FieldInfo) -> str:
    default = field.default
    return "" if default is None else f"{default:g}" if isinstance(default, float) else str(default)


def _comment(text: str) -> str:
    return textwrap.fill(text, width=120, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


def _table(entries: Entries) -> str:
    rows = [f"| `{name}` | {default or 'unset'} | {meaning} |\n" for name, (default, meaning) in entries.items()]
    return "| variable | default | meaning |\n|---|---|---|\n" + "".join(rows)


def main() -> int:
    """Write both files; with --check, only report those that are out of date."""
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    wanted = {EXAMPLE: env_example(), PAGE: before + BEGIN + "\n" + tables() + "\n" + END + after}
    outdated = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in outdated:
            print(f"{path.relative_to(ROOT)} is out of date: run make settings", file=sys.stderr)
        return bool(outdated)
    for path in outdated:
        path.write_text(wanted[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
