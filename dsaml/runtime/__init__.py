"""What a computation runs on: devices, processes and their ends, logs, the code that it depends on."""
