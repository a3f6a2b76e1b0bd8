"""What a task does when it runs. Imported inside ``execute`` only, so that parsing a DAG file stays cheap."""
