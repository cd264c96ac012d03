"""What lies in folders of a machine or a bucket: runs, datasets, reports. Reads; only `edits` writes."""
