"""What a computation runs on: devices, processes and their ends, the code that it depends on."""
