from __future__ import annotations

import sys

from airflow_claude_batch.emulator.cli import main

sys.exit(main())
