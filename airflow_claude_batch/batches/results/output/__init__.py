"""Where records are written, and in which format: a directory on object storage, or a list for XCom."""
