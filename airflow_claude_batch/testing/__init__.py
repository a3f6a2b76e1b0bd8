"""For the tests of those who write DAGs: no key, no network, no day to wait for.

``pytest_plugins = ["airflow_claude_batch.testing.pytest_plugin"]`` in ``conftest.py`` brings the fixtures.
"""
