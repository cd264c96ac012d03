"""Helpers of the tests; a test file imports from here, never from another test file."""
