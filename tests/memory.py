"""How much memory this process takes, and the most that it took from a moment on."""

import gc
import re
from pathlib import Path


def memory(name):
    """Return a figure of this process's memory in bytes: VmRSS now, VmHWM at its highest."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024


def peak_from_here():
    """Begin to measure the highest memory anew, and return what is taken now.

    What the operating system counts for a process as a whole, `ru_maxrss`, holds every test before, and in a child
    even what its parent took: it cannot tell what one test takes.
    """
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def growth_since(before):
    """Return by how many bytes the highest memory since `peak_from_here` was above what it returned."""
    return max(0, memory("VmHWM") - before)
