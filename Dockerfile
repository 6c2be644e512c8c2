# docker build -t dedup-proxy .
# docker run -p 8080:8080 -v dedup-data:/data -v "$PWD/config.yaml:/etc/dedup-proxy/config.yaml:ro" --stop-timeout 40 dedup-proxy
#
# In a container the listeners of the configuration must be reachable from outside it: server.listen: 0.0.0.0:8080, which
# wants callers to be configured. The ledger belongs on the volume: ledger.url: sqlite:////data/dedup.db, or PostgreSQL.
# The stop timeout is longer than server.drain, so that running calls end before the container does.

FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements/run.txt requirements/build.txt requirements/
RUN python -m venv /opt/dedup-proxy \
    && /opt/dedup-proxy/bin/pip install --require-hashes -r requirements/run.txt \
    && pip install --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY proxy/ proxy/
COPY providers/ providers/
COPY migrations/ migrations/
RUN pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels . \
    && /opt/dedup-proxy/bin/pip install --no-deps --no-index /wheels/*.whl

FROM python:3.13-slim
RUN groupadd --system --gid 10001 dedup \
    && useradd --system --uid 10001 --gid dedup --home-dir /data --shell /usr/sbin/nologin dedup \
    && install --directory --owner=dedup --group=dedup --mode=0750 /data /etc/dedup-proxy
COPY --from=build /opt/dedup-proxy /opt/dedup-proxy
ENV PATH=/opt/dedup-proxy/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HEALTH_URL=http://127.0.0.1:8081/healthz
USER 10001:10001
WORKDIR /data
VOLUME ["/data", "/etc/dedup-proxy"]
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
# The admin listener says whether the process is alive. An HTTP_PROXY in the environment is not for this question.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(os.environ['HEALTH_URL'], timeout=2)"]
ENTRYPOINT ["dedup-proxy"]
CMD ["serve", "--config", "/etc/dedup-proxy/config.yaml"]
