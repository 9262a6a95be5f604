# An image that runs the app and holds nothing else: no compiler, no pip, no caches.
#
#   docker build -t bids_group .
#   docker run --rm -v DATASET:/data:ro -v OUTPUT:/out bids_group /data /out group --model /data/model_smdl.json
#
# Builders behind a proxy or a mirror hand pip their own settings as build secrets, of which the image keeps nothing:
#   docker build --secret id=pip_conf,src=pip.conf --secret id=build_ca,src=ca.crt -t bids_group .
# (pip.conf then says `cert = /run/build-ca.crt`).
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS python
# Versions of Debian's packages come and go in a stable release (security updates), so a pinned one soon cannot be had.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

FROM python AS build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3-venv \
 && rm -rf /var/lib/apt/lists/*
COPY requirements.lock /src/
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=build_ca,target=/run/build-ca.crt \
    python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /src/requirements.lock
COPY . /src/
# What installs has no place in what runs.
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=build_ca,target=/run/build-ca.crt \
    /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps /src \
 && /opt/venv/bin/pip uninstall --yes setuptools pip

FROM python
ARG VERSION=0.2.0
LABEL org.opencontainers.image.title="bids_group" \
      org.opencontainers.image.description="A BIDS App for group-level fMRI" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/venv /opt/venv
# The record of a run names the image, which cannot see its own name.
ENV BIDS_GROUP_IMAGE=bids_group:${VERSION}
RUN useradd --uid 1000 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin bids
# No display, nothing of the user's own Python, and nothing kept in a home of the image. matplotlib's list of fonts goes
# to the work directory, which the app sees to unless MPLCONFIGDIR is set.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    LC_ALL=C.UTF-8 \
    MPLBACKEND=Agg \
    XDG_CACHE_HOME=/tmp/cache \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONNOUSERSITE=1
USER 1000
ENTRYPOINT ["bids_group"]
