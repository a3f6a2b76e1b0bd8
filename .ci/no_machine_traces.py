"""Fails when a file of the checkout names this machine's folders, a package registry's host, or a key.

Of the keys only Anthropic's: `detect-secrets` knows the others, and finds these only in quotes.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

# A character class in each word keeps this file from finding itself.
TRACES = re.compile(
    r"/[r]oot/|/[w]ork/|/[U]sers/\w|/[h]ome/\w|/[o]pt/pypi|/[t]mp/(v|exp|bash)"
    r"|[i]ndex[-_]url|[p]ypi\.org/simple|[p]ythonhosted\.org|[r]egistry\.npmjs\.org|[p]roxy\.golang\.org"
    r"|[s]k-ant-(api|admin|sid)\d\d-[\w-]{20}"
)


def main() -> int:
    """Print each trace as file:line; 1 when there is one."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )
    found = 0
    for file in map(Path, filter(None, listed.stdout.split("\0"))):
        if not file.is_file():
            continue
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), start=1):
            if trace := TRACES.search(line):
                print(f"{file}:{number}: {trace.group()} belongs to one machine or account")
                found = 1
    return found


if __name__ == "__main__":
    sys.exit(main())
