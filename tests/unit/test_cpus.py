"""A process with threads is not forked."""

import threading

from pm.cpus import process_map


def test_a_process_with_threads_maps_alone():
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        with process_map(chunksize=1) as mapped:
            assert mapped is map
    finally:
        ended.set()
        thread.join()
