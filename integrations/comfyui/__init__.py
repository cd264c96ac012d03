"""PhotoMaker nodes for ComfyUI: portraits from several photos, by a server of this project or in ComfyUI's process.

Copy this folder into ComfyUI's `custom_nodes`. The server nodes need nothing else; the library nodes need this project
to be installed in ComfyUI's Python.
"""

from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
