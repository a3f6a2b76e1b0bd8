"""The engine: Claude message batches in plain Python, on the Anthropic SDK and fsspec storage.

Nothing here imports Airflow; the Airflow face (operators, sensors, triggers) imports this.
"""
