"""Files of large transformers in Wan's shape: what their tensors are called, what they are, how they are read.

`names` translates, `families` lists the public models, `recognise` tells which one a file is, `files` reads it a tensor
at a time, `lora_files` reads small changes to it.
"""
