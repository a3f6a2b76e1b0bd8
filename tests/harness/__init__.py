"""Runs real Airflow processes and the API emulator on this machine, for the demo and the system tests."""
