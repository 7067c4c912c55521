"""Large public transformers in Wan's shape: their files, and how each of them hears.

`names` translates, `families` lists the public models, `recognise` tells which one a file is, `files` reads it a tensor
at a time, `lora_files` reads small changes to it. `multitalk`, `fantasytalking`, `s2v` and `xdub` are our transformer
with another way for sound to get in; `models` builds and fills them.
"""
