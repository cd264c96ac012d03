"""The first hour with a GPU: what only one can show, in rows that are kept one by one."""
