# syntax=docker/dockerfile:1
# UniSync's server, and every command of it. docs/container.md says how it is built and run.

FROM python:3.11-slim-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# TORCH_ARGS goes to the installation of torch alone. Without it that is the build for CUDA; for a machine without a GPU say
# which index has the CPU builds, as PyTorch's start page does. PIP_ARGS goes to the installation of the rest.
ARG TORCH_ARGS=""
ARG PIP_ARGS=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PATH=/opt/unisync/bin:$PATH
WORKDIR /build
RUN python -m venv /opt/unisync
COPY constraints constraints
# What torch needs comes with the rest, from where that comes from.
# hadolint ignore=DL3013,SC2086
RUN pip install --no-deps ${TORCH_ARGS} "$(grep '^torch==' constraints/all.txt)"
# Only its face models are read; it is never imported.
RUN pip install --no-deps mediapipe==0.10.14
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
# hadolint ignore=SC2086
RUN pip install -c constraints/all.txt ${PIP_ARGS} '.[demo,serve]'

FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 1000 unisync \
    && install --directory --owner unisync --group unisync /data
COPY --from=build /opt/unisync /opt/unisync
# Idle threads that spin make a small step a hundred times slower when another process is busy.
ENV OMP_WAIT_POLICY=PASSIVE \
    PATH=/opt/unisync/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /data
VOLUME /data
EXPOSE 8765
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as web; web.urlopen('http://127.0.0.1:8765/healthz', timeout=4)"]
ENTRYPOINT ["unisync"]
CMD ["serve", "--host", "0.0.0.0", "--root", "/data/server"]
