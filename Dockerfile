# jqd in a container: small, not root, process 1 of its own. Build: docker build -t jqd .
# Your handlers: FROM jqd, COPY them to /app, and name them in the configuration.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY jobqueue jobqueue
COPY supervisor supervisor
RUN python -m venv /opt/jqd && /opt/jqd/bin/pip install --no-cache-dir .

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /app --create-home --shell /usr/sbin/nologin jqd
COPY --from=build /opt/jqd /opt/jqd
COPY config/production.yaml /etc/jqd/jobqueue.yaml
ENV PATH=/opt/jqd/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    JQ_METRICS_ADDR=0.0.0.0:2112
WORKDIR /app
USER 10001:10001
EXPOSE 2112
# The master drains on TERM; give it longer than shutdown.drain_timeout (docker stop --time).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:2112/livez', timeout=2)"]
# No init in front: jqd reaps whatever is adopted by process 1, and handles its signals itself.
ENTRYPOINT ["jqd"]
CMD ["-c", "/etc/jqd/jobqueue.yaml"]
