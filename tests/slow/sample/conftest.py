from support.sample_fixtures import adapter_files, photos

__all__ = ["adapter_files", "photos"]
