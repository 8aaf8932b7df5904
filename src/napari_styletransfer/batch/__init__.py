"""Many pictures in one go: which files, what became of each, and who does the work.

`sources` finds the contents and names the results, `manifest` remembers what is done, `schedule` has the tasks done by
Dask's workers. A task reads one file, stylises it and writes the result whole or not at all, so that
whatever ends a batch costs at most the files in work.
"""
