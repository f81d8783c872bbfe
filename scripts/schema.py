"""Write docs/showtell.schema.json, or with --check say whether it is current (exit code 1)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from showtell.data.schema import dialogue_schema

TARGET = Path(__file__).resolve().parents[1] / "docs" / "showtell.schema.json"


def main() -> int:
    text = json.dumps(dialogue_schema(), indent=2) + "\n"
    if "--check" in sys.argv[1:]:
        current = TARGET.exists() and TARGET.read_text(encoding="utf-8") == text
        print(f"{TARGET.name} is {'current' if current else 'stale: python scripts/schema.py'}")
        return 0 if current else 1
    TARGET.write_text(text, encoding="utf-8")
    print(f"Wrote {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
