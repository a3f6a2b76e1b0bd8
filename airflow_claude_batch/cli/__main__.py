"""``python -m airflow_claude_batch.cli``."""

import sys

from airflow_claude_batch.cli.parser import main

sys.exit(main())
