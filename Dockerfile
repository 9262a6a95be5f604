# An image that runs the app and holds nothing else: no compiler, no pip, no tests, no caches. See docs/containers.md.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS python
# Versions of Debian's packages come and go in a stable release (security updates), so a pinned one soon cannot be had.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/*

FROM python AS build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3-venv \
 && rm -rf /var/lib/apt/lists/*
COPY requirements.lock /src/
# Builders behind a proxy or a mirror hand pip their own settings as secrets, of which the image keeps nothing.
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=build_ca,target=/run/build-ca.crt \
    python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --no-compile --disable-pip-version-check --require-hashes -r /src/requirements.lock
COPY . /src/
# What installs and what tests has no place in what runs. Bytecode has: nothing can be compiled into a read-only image.
# Its validity is by hash, because dates of files do not survive every conversion of an image.
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=build_ca,target=/run/build-ca.crt \
    /opt/venv/bin/pip install --no-cache-dir --no-compile --disable-pip-version-check --no-deps /src \
 && /opt/venv/bin/pip uninstall --yes setuptools pip \
 && find /opt/venv -type d -name tests -prune -exec rm -rf {} + \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv

FROM python
COPY --from=build /opt/venv /opt/venv
RUN useradd --uid 1000 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin bids
ARG VERSION=0.3.0
ARG REVISION=unknown
# What dataset_description.json says of the container: give the name under which the image is published.
ARG TAG=bids_group:${VERSION}
LABEL org.opencontainers.image.title="bids_group" \
      org.opencontainers.image.description="A BIDS App for group-level fMRI" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# No display, and nothing kept in a home. matplotlib's list of fonts goes to the work directory.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    LC_ALL=C.UTF-8 \
    MPLBACKEND=Agg \
    XDG_CACHE_HOME=/tmp/cache \
    BIDS_GROUP_IMAGE=${TAG}
USER 1000
# Isolated (-I): apptainer hands on the user's environment, whose PYTHONPATH would bring in other packages than these.
ENTRYPOINT ["/opt/venv/bin/python3", "-I", "/opt/venv/bin/bids_group"]
