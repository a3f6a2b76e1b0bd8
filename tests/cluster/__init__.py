"""A distributed Airflow on one machine: two Celery workers, two triggerers, S3 and so on; and its faults."""
