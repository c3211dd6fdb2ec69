"""What this machine is and has: processors, memory, files, the NVIDIA driver, installed libraries."""
