"""What declarations, runtime and page share: settings, the handle, XCom keys, task states, metrics."""
