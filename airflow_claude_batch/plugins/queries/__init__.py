"""The page's only look at Airflow's metadata database.

Airflow's models are no public interface: everything that names them stands here. Each query starts from
the index on XCom keys or from runs that a page of jobs names, has a limit, and ends after
:data:`~airflow_claude_batch.plugins.statements.SECONDS`.
"""
