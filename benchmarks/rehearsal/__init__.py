"""Everything a user does with SDXL at its real size, on a machine without a GPU."""
