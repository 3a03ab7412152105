# syntax=docker/dockerfile:1

# One image for every part: serve (the API), worker, sweep, migrate. Configured by environment
# variables (docs/configuration.md); runs as nobody in particular, on a read-only root filesystem
# with a writable /tmp.

# The Python that the tests run on. A tag, so that a rebuild brings the base's security fixes; for
# the very same bytes each time, give a digest: --build-arg BASE=python@sha256:...
ARG BASE=python:3.11-slim-trixie

FROM ${BASE} AS wheel
WORKDIR /src
COPY requirements-build.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --only-binary :all: -r requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY migrations migrations
COPY workers workers
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist .

FROM ${BASE} AS venv
# without pip: what runs installs nothing. And pip writes the bytecode that nobody can write later.
RUN python -m venv --without-pip /opt/secondlook
# no embedded engines, no demo; OpenTelemetry, which does nothing until it is configured
COPY requirements-otel.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/secondlook/bin/python install --compile \
      --require-hashes --only-binary :all: -r requirements-otel.txt
COPY --from=wheel /dist /dist
RUN pip --python /opt/secondlook/bin/python install --compile --no-deps --no-index /dist/*.whl \
    && pip --python /opt/secondlook/bin/python check

FROM ${BASE} AS final
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Secondlook" \
      org.opencontainers.image.description="A language model labels your items, keeps each label with its confidence, and sends people only what needs a second look." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# calls to the model trust the system's certificates
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=venv /opt/secondlook /opt/secondlook
# one thread of linear algebra: one a core of the host, whatever the limits say, would help nobody
ENV PATH=/opt/secondlook/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONSAFEPATH=1 \
    OPENBLAS_NUM_THREADS=1 \
    HOME=/tmp
WORKDIR /srv
# a number, so that an orchestrator can see that it is not root
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# of the API, which is what runs by default; docker-compose.yml has those of the other parts
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["secondlook"]
CMD ["serve", "--host", "0.0.0.0"]
