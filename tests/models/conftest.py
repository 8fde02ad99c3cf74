"""The tiny open_clip folder of the encoders' tests, and a hub that cannot be reached."""

from tests.encoders.conftest import bert_folder, clip_folder, no_hub

__all__ = ["bert_folder", "clip_folder", "no_hub"]
