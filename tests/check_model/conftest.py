"""A folder with a tokenizer, and no hub."""

from tests.encoders.conftest import bert_folder, no_hub

__all__ = ["bert_folder", "no_hub"]
