# Two stages: build tools stay behind. Build context: the repository root.
#
#   docker build -t enose .
#   docker run -p 4840:4840 -v enose-data:/data -v ./plant.yaml:/etc/enose/plant.yaml:ro enose
#
# The data volume holds database, keys and trust lists; nothing else in the container changes. The plant file needs
# `server.host: 0.0.0.0` and, as `server.hostname`, the name clients reach the container by; a port other than 4840 is
# told to the health check by ENOSE_PORT. A bill of materials comes with `docker buildx build --sbom=true`.

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/enose
ENV PATH=/opt/enose/bin:$PATH
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock
COPY . .
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip install --no-cache-dir --no-deps --no-index /wheels/*.whl \
    && pip uninstall --yes setuptools

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="enose" \
      org.opencontainers.image.description="OPC UA server and control service for electronic noses on a production line" \
      org.opencontainers.image.version="0.1.0"
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin enose \
    && install -d -o enose -g enose -m 0700 /data
COPY --from=build /opt/enose /opt/enose
COPY NOTICE /usr/share/doc/enose/NOTICE
COPY LICENSES /usr/share/doc/enose/LICENSES
ENV PATH=/opt/enose/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ENOSE_PORT=4840
USER enose
WORKDIR /data
VOLUME /data
EXPOSE 4840
STOPSIGNAL SIGTERM
# The server accepts a connection on its port: the one thing every client needs, and it costs no session.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, socket; socket.create_connection(('127.0.0.1', int(os.environ['ENOSE_PORT'])), 3).close()"]
ENTRYPOINT ["enose"]
CMD ["run", "--config", "/etc/enose/plant.yaml", "--data-dir", "/data"]
