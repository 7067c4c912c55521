"""Commands that say what this machine and its files are fit for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from unisync.cli.app import Verbose, app
from unisync.cli.terminal import BAD_INPUT, table, told


@app.command()
def doctor(
    backbone: Annotated[Path | None, typer.Option(metavar="PATH", help="Say instead what a public model is.")] = None,
    adapter: Annotated[Path | None, typer.Option(metavar="PATH", help="What adds sound to it.")] = None,
    vae: Annotated[Path | None, typer.Option(metavar="PATH", help="Its autoencoder.")] = None,
    lora: Annotated[list[Path] | None, typer.Option(metavar="PATH", help="For it; may be given often.")] = None,
    vram: Annotated[float | None, typer.Option(metavar="GB", help="Say how it lies in so much of a device.")] = None,
    canvas: Annotated[int, typer.Option(metavar="PX", help="Side of what it would paint.")] = 512,
    length: Annotated[int, typer.Option(metavar="FRAMES", help="Frames that it would paint at once.")] = 81,
    storage: Annotated[
        Literal["bf16", "fp8"] | None, typer.Option(metavar="bf16|fp8", help="How its matrices would lie there.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Say what this machine lacks, and the command that mends it; or whether weights go together."""
    with told(verbose):
        from unisync import api

        if backbone is not None:
            for line in api.recognise(backbone, adapter=adapter, vae=vae, loras=lora or []):
                print(line)
            for line in api.plan_memory(
                backbone, adapter=adapter, canvas=canvas, length=length, vram=vram, storage=storage
            ):
                print(line)
            return
        lacking = 0
        for check in api.doctor():
            mark = "ok     " if check.ok else "MISSING" if check.needed else "note   "
            print(f"{mark} {check.name}: {check.found}", flush=True)
            if not check.ok and check.mend:
                print(f"          mend it with: {check.mend}")
            lacking += check.needed and not check.ok
        print("all that is needed is there" if not lacking else f"{lacking} needed and missing")
    if lacking:
        raise typer.Exit(1)


@app.command()
def text(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="UMT5-XXL and its tokenizer, as transformers or diffusers save them."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write, for dub --text.")],
    prompt: Annotated[str | None, typer.Option(help="What is to be seen; else somebody who speaks.")] = None,
    negative: Annotated[str | None, typer.Option(help="What is not; else the usual faults.")] = None,
    verbose: Verbose = False,
) -> None:
    """Encode text for large public models once, so that dubbing needs no text encoder."""
    with told(verbose):
        from unisync import api

        wanted, unwanted = api.encode_text(folder, out, prompt=prompt, negative=negative)
        print(f"{out}: {wanted!r}, not {unwanted!r}")


@app.command()
def models(
    do: Annotated[
        Literal["list", "where", "check"],
        typer.Argument(
            metavar="list|where|check",
            help="list: which files are known, and which are there; where: print the folder; check: read those there.",
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where they lie; else UNISYNC_MODELS, or the user's own folder."),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Say which published weights are there, for metrics of papers."""
    with told(verbose):
        from unisync import api

        num = damaged = 0
        if do == "where":
            print(api.models_folder(folder))
        elif do == "list":
            for line in table(api.model_rows(folder)):
                print(line)
        else:
            for found in api.check_models(folder):
                print(found.problem or f"{found.path}: {found.state}", flush=True)
                num, damaged = num + 1, damaged + bool(found.problem)
            print(f"{num} files, {damaged} damaged")
    if damaged:
        raise typer.Exit(BAD_INPUT)
