"""The access service: which points a caller should use, ordered by load and by what the callers' races measured."""
