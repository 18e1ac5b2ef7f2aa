# One image for workers, migrations and the sandbox. It holds no secrets: settings come from the environment.
FROM python:3.11-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/corro
ENV PATH=/opt/corro/bin:$PATH

COPY requirements/all.lock /src/requirements/
RUN pip install --require-hashes -r /src/requirements/all.lock

COPY pyproject.toml README.md /src/
COPY models /src/models
COPY producers /src/producers
COPY worker /src/worker
COPY alembic /src/alembic
RUN pip install --no-deps --no-build-isolation /src


FROM python:3.11-slim

RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/corro --create-home --shell /usr/sbin/nologin corro
COPY --from=build /opt/corro /opt/corro

ENV PATH=/opt/corro/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CORRO_HOME=/var/lib/corro
USER corro
WORKDIR /var/lib/corro
VOLUME /var/lib/corro

# SIGTERM is the orderly stop; it may take longer than 45 s.
STOPSIGNAL SIGTERM
ENTRYPOINT ["corro"]
CMD ["--help"]
