"""Large public models in Wan's shape as backbones.

`parts` finds their files and says whether they go together, `habits` how each is used, `hearing` what each hears,
`seeing` and `text` what else each is told; `backbone` puts them together.
"""
